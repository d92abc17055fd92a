"""Rules 1, 2 and 6: who imports what. Each rule is also shown a broken example, so that it cannot fall asleep."""

from __future__ import annotations

import pytest

from tests.shape import import_rules as rules
from tests.shape.tree import Rule, Source, broken

RULES = [
    rules.services_are_strangers,
    rules.technologies_have_their_files,
    rules.the_domain_stands_alone,
    rules.arrows_point_one_way,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_holds(rule: Rule) -> None:
    assert broken(rule) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (rules.services_are_strangers, "price_service/live/hub.py", "from order_service.domain import order"),
        (rules.services_are_strangers, "price_service/live/hub.py", "import order_service"),
        (rules.services_are_strangers, "order_service/app.py", "from api.errors import problem"),
        (rules.services_are_strangers, "infra/bus.py", "from outbox_relay import relay"),
        (rules.services_are_strangers, "infra/migrations/orders/env.py", "import order_service.store.tables_pg"),
        (rules.services_are_strangers, "api/app.py", "from price_service import app"),
        (rules.services_are_strangers, "api/__main__.py", "from price_service.live import hub"),
        (rules.services_are_strangers, "api/__main__.py", "from outbox_relay import app"),
        (rules.services_are_strangers, "api/demo.py", "from exchange_gateway.simulator import book"),
        (rules.services_are_strangers, "infra/process.py", "def f():\n    from api import app"),
        (rules.services_are_strangers, "infra/a.py", "import importlib\nimportlib.import_module('api.app')"),
        (rules.technologies_have_their_files, "order_service/placing/place.py", "import sqlalchemy"),
        (rules.technologies_have_their_files, "order_service/placing/place.py", "from psycopg import sql"),
        (rules.technologies_have_their_files, "order_service/store/orders_pg.py", "import redis.asyncio"),
        (rules.technologies_have_their_files, "exchange_gateway/orders/forward.py", "import httpx"),
        (rules.technologies_have_their_files, "outbox_relay/relay.py", "from confluent_kafka import Producer"),
        (rules.technologies_have_their_files, "price_service/live/sse.py", "import sse_starlette"),
        (rules.the_domain_stands_alone, "order_service/domain/money.py", "import msgspec"),
        (rules.the_domain_stands_alone, "order_service/domain/money.py", "from infra import clock"),
        (rules.the_domain_stands_alone, "order_service/domain/money.py", "from order_service.store import memory"),
        (rules.arrows_point_one_way, "order_service/domain/order.py", "from order_service.store import memory"),
        (rules.arrows_point_one_way, "order_service/store/memory.py", "from order_service.placing import place"),
        (rules.arrows_point_one_way, "order_service/placing/place.py", "from order_service.reports import apply"),
        (rules.arrows_point_one_way, "order_service/placing/place.py", "from ..reports import apply"),
        (rules.arrows_point_one_way, "order_service/placing/place.py", "from order_service import app"),
        (rules.arrows_point_one_way, "order_service/settings.py", "from order_service.placing import place"),
        (rules.arrows_point_one_way, "exchange_gateway/feed/feed_ws.py", "from exchange_gateway.simulator import feed"),
        (rules.arrows_point_one_way, "exchange_gateway/simulator/feed.py", "from exchange_gateway.orders import wire"),
        (rules.arrows_point_one_way, "api/auth/bearer.py", "from api.ops import routes"),
    ],
)
def test_a_wrong_import_is_found(rule: Rule, path: str, text: str) -> None:
    assert [finding for finding in rule(Source(path, text)) if finding.startswith(f"{path}:")]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("api/__main__.py", "from price_service import app\nfrom order_service.settings import OrderSettings"),
        ("api/demo.py", "from exchange_gateway.simulator import app\nfrom outbox_relay.app import relay"),
        ("api/demo.py", "from order_service.store.memory import MemoryOrders"),
        ("order_service/store/orders_pg.py", "import psycopg\nfrom order_service.domain import order"),
        ("order_service/placing/place.py", "from order_service.store import ports\nfrom order_service import settings"),
        ("order_service/app.py", "from order_service.reports import apply\nfrom infra import bus"),
        ("order_service/domain/order.py", "from decimal import Decimal\nfrom order_service.domain import money"),
        ("outbox_relay/relay.py", "from outbox_relay import pgoutput"),
        ("infra/bus_kafka.py", "import confluent_kafka"),
    ],
)
def test_a_right_import_is_not(path: str, text: str) -> None:
    assert [finding for rule in RULES for finding in rule(Source(path, text))] == []
