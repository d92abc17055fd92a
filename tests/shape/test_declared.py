"""Rules 7 and 8: what is declared, is declared once."""

from __future__ import annotations

import pytest

from tests.shape import declared_rules as rules
from tests.shape.tree import PRODUCT, Rule, Source, broken, sources

RULES = [
    rules.topics_are_named_once,
    rules.metrics_are_declared_once,
    rules.settings_are_explained,
    rules.codes_are_declared_in_reasons,
    rules.states_have_one_table,
]
HERE = "order_service/placing/place.py"
SETTING = "from infra.settings import setting\nclass S:\n    "


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_holds(rule: Rule) -> None:
    assert broken(rule) == []


def test_no_setting_and_no_code_is_declared_twice() -> None:
    found = sources(*PRODUCT)
    assert [*rules.settings_are_declared_once(found), *rules.codes_are_declared_once(found)] == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (rules.topics_are_named_once, HERE, "TOPIC = 'order-status'"),
        (rules.topics_are_named_once, HERE, "def f(bus): return bus.subscribe(['orders', 'x'], 'group')"),
        (rules.topics_are_named_once, HERE, "def f(p): p.send('prices', None, b'')"),
        (rules.topics_are_named_once, HERE, "x = 'orders.dlq'"),
        (rules.metrics_are_declared_once, HERE, "from prometheus_client import Counter\nC = Counter('a_total', 'A.')"),
        (rules.metrics_are_declared_once, rules.TELEMETRY, "import prometheus_client as p\nC = p.Counter('a', 'A.')"),
        (
            rules.metrics_are_declared_once,
            rules.TELEMETRY,
            "from prometheus_client import Histogram\nC = Histogram('a_seconds', 'no sentence')",
        ),
        (
            rules.metrics_are_declared_once,
            rules.TELEMETRY,
            "from prometheus_client import Histogram\nC = Histogram('a', 'A.')",
        ),
        (rules.settings_are_explained, HERE, SETTING + "flush_ms: int = setting(1)"),
        (rules.settings_are_explained, HERE, SETTING + "flush_ms: int = setting(1, doc='no sentence')"),
        (rules.settings_are_explained, HERE, SETTING + "flush: int = setting(1, 'How often.')"),
        (rules.codes_are_declared_in_reasons, HERE, "from infra.refusal import Refusal\nx = Refusal('code', 'Text.')"),
        (
            rules.codes_are_declared_in_reasons,
            HERE,
            "from order_service.domain.reasons import Code\nx = Code('a', '', '')",
        ),
        (rules.states_have_one_table, HERE, "OPEN = {'PENDING', 'PLACED', 'PARTIALLY_FILLED'}"),
        (rules.states_have_one_table, HERE, "OPEN = (Status.PENDING, Status.PLACED, Status.FILLED)"),
        (rules.states_have_one_table, HERE, "T = {('PENDING', 'ack'): 'PLACED', ('PLACED', 'fill'): 'FILLED'}"),
        (rules.states_have_one_table, HERE, "class S(StrEnum):\n    PENDING = 'a'\n    PLACED = 'b'\n    FILLED = 'c'"),
        (rules.states_have_one_table, HERE, "Q = \"SELECT 1 WHERE status IN ('PENDING', 'PLACED', 'FILLED')\""),
    ],
)
def test_a_second_declaration_is_found(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(
    "text",
    [
        '"""About the topic order-status."""',
        "PATH = '/orders'\nDATABASE = 'orders'",
        "from collections import Counter\nc = Counter('abc')",
        SETTING + "flush_ms: int = setting(1, 'Pause between flushes, milliseconds.')",
        SETTING + "name: str = setting('x', doc='A name.')",
        "def f(order): return order.status in (Status.PENDING, Status.PLACED)",
        "VENUE = {'NEW', 'FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'}",
        "from order_service.store.refusals import refuse\nx = refuse(reasons.BUSY)",
    ],
)
def test_a_use_is_not_a_declaration(text: str) -> None:
    assert [finding for rule in RULES for finding in rule(Source(HERE, text))] == []


def test_doubles_are_found() -> None:
    one = Source("a/settings.py", SETTING + "flush_ms: int = setting(1, 'A.')")
    two = Source("b/settings.py", SETTING + "flush_ms: int = setting(2, 'B.')")
    assert len(list(rules.settings_are_declared_once([one, two]))) == 1
    code = "X = Code('same', 'Text.', 'Fix.')"
    reasons = [Source("a/reasons.py", code), Source("b/domain/reasons.py", code)]
    assert len(list(rules.codes_are_declared_once(reasons))) == 1
