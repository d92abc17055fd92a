"""A stock Debezium connector in the place of our relay: the same records, and an order still travels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest

from infra.bus import Message
from infra.bus_kafka import KafkaBus
from infra.contracts import ORDER_EVENTS, ORDERS, Command, cl_ord_id, encode
from infra.outbox import OutboxRow
from infra.stack import connect
from infra.stack.layout import Cache
from infra.stack.ports import free_numbers
from infra.stack.processes import SERVERS, SERVICES
from infra.stack.stack import Stack, throwaway_settings
from tests.bench.order_to_client import tradable
from tests.flow.walking import eventually
from tests.outbox_rows import INSERT, columns_of
from tests.real.system import doors_of

pytestmark = [pytest.mark.debezium, pytest.mark.timeout(300)]

DEADLINE_S = 90.0
EMPTY = "TRUNCATE outbox"
TOPICS = (ORDERS, ORDER_EVENTS)
AT_THE_VENUE = {"PLACED", "PARTIALLY_FILLED", "FILLED"}

# What a consumer can see of a record, its time apart.
Seen = tuple[str, int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]


@pytest.fixture
def stack() -> Iterator[Stack]:
    settings = throwaway_settings(os.environ)
    try:
        with Stack(settings, attached=True) as made:
            made.start(SERVERS)
            made.prepare()
            yield made
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)


@contextlib.contextmanager
def debezium(stack: Stack) -> Iterator[None]:
    jars = connect.installed(Cache(stack.settings.infra.cache_dir), print)
    with connect.running(stack.programs(), jars, stack.settings, *free_numbers(1)):
        yield


def rows(stack: Stack, query: str, *arguments: object) -> list[tuple[object, ...]]:
    with psycopg.connect(stack.settings.infra.dsn("orders"), autocommit=True) as connection:
        cursor = connection.execute(query, arguments)
        return cursor.fetchall() if cursor.description else []


async def by_event(stack: Stack, is_enough: Callable[[dict[str, list[Seen]]], bool]) -> dict[str, list[Seen]]:
    """event id → its records, in the order of the log, once there are enough."""
    reader = await KafkaBus(stack.settings.infra.bootstrap, "test").read(TOPICS, "earliest")
    found: dict[str, list[Seen]] = defaultdict(list)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not is_enough(found):
                for message in await reader.batch(1000, 0.5):
                    found[(message.header("event-id") or b"").decode()].append(seen(message))
    finally:
        await reader.close()
    return found


def seen(message: Message) -> Seen:
    return message.topic, message.partition, message.key, message.value, message.headers


async def compare(stack: Stack, count: int) -> None:
    """Ours beside theirs: a relay that never ran publishes every row of the table."""
    theirs = await by_event(stack, lambda found: len(found) >= count)
    assert all(len(records) == 1 for records in theirs.values())
    stack.start(["outbox_relay"])
    both = await by_event(stack, lambda found: len(found) >= count and all(len(r) >= 2 for r in found.values()))
    assert both.keys() == theirs.keys()
    for event_id, (first, second, *_) in both.items():
        assert first == second, event_id
        assert [name for name, _ in first[4]] == ["event-id", "idempotency-key", "traceparent", "schema"]


def made_rows() -> list[OutboxRow]:
    """A command and an event for each of many orders, and payloads that a careless converter would change."""
    found: list[OutboxRow] = []
    for number in range(60):
        order_id = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))
        command = Command(
            kind="submit",
            event_id=str(uuid.uuid4()),
            order_id=order_id,
            account_id=number + 1,
            cl_ord_id=cl_ord_id(order_id, 1),
            symbol="AAPL",
            order_type="buy",
            type="LIMIT",
            tif="DAY",
            quantity=10,
            limit_micros=123_450_000,
            requested_ns=1_700_000_000_000_000_000,
        )
        found.append(made(command.event_id, ORDERS, order_id, encode(command).decode(), f"key {number} é"))
    odd = ['{"é":"😀 \\u0000 \\\\ \\n"}', "{}", '"text"', "17", " { } ", '{"a":1.10,"b":1e3,"big":' + "9" * 40 + "}"]
    odd.append(json.dumps({"pad": "é" * 100_000}, ensure_ascii=False))
    return found + [made(str(uuid.uuid4()), ORDER_EVENTS, str(n), payload, "") for n, payload in enumerate(odd)]


def made(event_id: str, topic: str, key: str, payload: str, idempotency_key: str) -> OutboxRow:
    return OutboxRow(event_id, topic, key, "Thing", payload, idempotency_key, f"00-{uuid.uuid4().hex}-{'1' * 16}-01")


async def test_the_same_records(stack: Stack) -> None:
    rows(stack, EMPTY)
    wanted = made_rows()
    with debezium(stack):
        with psycopg.connect(stack.settings.infra.dsn("orders")) as connection:
            connection.cursor().executemany(INSERT, [columns_of(row) for row in wanted[:50]])
            connection.commit()
            connection.cursor().executemany(INSERT, [columns_of(row) for row in wanted[50:]])
        await by_event(stack, lambda found: len(found) >= len(wanted))
    await compare(stack, len(wanted))


async def test_an_order_still_travels_to_the_venue(stack: Stack) -> None:
    others = [name for name in SERVICES if name != "outbox_relay"]
    with debezium(stack):
        stack.start(others)
        doors = doors_of(stack)
        token = doors.token("investor", 1)
        symbol = await tradable(doors.api_url, token)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=doors.api_url, headers=headers, trust_env=False, timeout=20) as client:
            quote = (await client.get("/stockPrices", params={"symbol": symbol})).json()
            amount = round(float(quote["price"]) * 0.95, 2)
            order = {"orderType": "buy", "type": "LIMIT", "symbol": symbol, "quantity": 1, "amount": amount}
            placed = (await client.post("/orders", json=order)).raise_for_status().json()

            async def accepted() -> bool:
                found = (await client.get(f"/orders/{placed['id']}")).json()
                return found["status"] in AT_THE_VENUE and bool(found["exchangeOrderId"])

            await eventually("the venue has the order", accepted, DEADLINE_S)
        stack.stop_processes(others)
        ((count,),) = rows(stack, "SELECT count(*) FROM outbox")
        assert isinstance(count, int)
        assert count >= 3, "a command, the event of its placing, the event of its acceptance"
        await by_event(stack, lambda found: len(found) >= count)
    await compare(stack, count)
