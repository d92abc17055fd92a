"""An order's whole way through the order service, on twins: HTTP → outbox → bus → reports → final state → stream."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from infra.bus import Bus
from infra.bus_memory import MemoryBus
from infra.contracts import (
    DLQ_SUFFIX,
    ORDER_EVENTS,
    ORDER_STATUS,
    ORDERS,
    Command,
    OrderEvent,
    Reason,
    Report,
    decode,
    encode,
)
from infra.dlq.letters_memory import MemoryLetters
from infra.outbox import record_headers
from infra.process import Part, run_parts, serve_http
from order_service import app
from order_service.store.memory import MemoryOrders
from order_service.store.memory_books import MemoryBooks
from order_service.store.memory_watch import MemoryBreaks, MemoryWatch
from tests.flow.walking import eventually
from tests.unit.order_service.house import GOOD, House, house

FINAL = {"FILLED", "CANCELED", "REJECTED", "EXPIRED", "FAILED"}


def relay(store: MemoryOrders, bus: Bus) -> Part:
    """The outbox, row by row; every third is sent twice, as after a crash."""

    async def run(stop: asyncio.Event) -> None:
        producer, after = bus.producer(), 0
        while not stop.is_set():
            # Waiting begins before looking, so a row that comes in between is not missed.
            changed = asyncio.ensure_future(store.outbox_changed())
            await asyncio.sleep(0)
            rows = store.unpublished(after, 100)
            for after, row in rows:
                headers = record_headers(row.id, row.idempotency_key, row.traceparent)
                for _ in range(2 if after % 3 == 0 else 1):
                    await producer.send(row.aggregatetype, row.aggregateid.encode(), row.payload.encode(), headers)
            if not rows:
                await asyncio.wait({changed, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()

    return run


class Venue:
    """Fills what has an even price in two parts, lets the rest stand, and says everything twice, out of order."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self._bus = bus
        self._random = random.Random(seed)
        self._numbers: dict[str, int] = {}
        self._seen: set[str] = set()
        self._ended: set[str] = set()
        self.fills: dict[str, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        commands, producer = await self._bus.subscribe([ORDERS], "venue"), self._bus.producer()
        while not stop.is_set():
            for message in await commands.batch(100, 0.05):
                command: Command = decode(Command, message.value)
                if command.event_id in self._seen:
                    continue
                self._seen.add(command.event_id)
                reports = self._answer(command) * 2
                self._random.shuffle(reports)
                for report in reports:
                    await producer.send(ORDER_STATUS, command.order_id.encode(), encode(report), message.headers)

    def _answer(self, command: Command) -> list[Report]:
        order_id = command.order_id
        if order_id in self._ended:
            return [self._report(command, "cancel_reject", None, reason=Reason("too_late", "It has ended."))]
        if command.kind == "cancel":
            self._ended.add(order_id)
            return [self._report(command, "execution", "CANCELED")]
        if command.kind == "replace":
            terms = {"quantity": command.quantity, "limit_micros": command.limit_micros}
            reports = [self._report(command, "execution", "REPLACED", orig_cl_ord_id=command.orig_cl_ord_id, **terms)]
        else:
            reports = [self._report(command, "execution", "NEW")]
        if command.type == "MARKET" or (command.limit_micros or 0) % 20_000 == 0:
            parts = (command.quantity // 2, command.quantity - command.quantity // 2)
            reports += [
                self._report(command, "execution", "TRADE", last_qty=part, last_micros=580_000_000) for part in parts
            ]
            self.fills[order_id] = command.quantity
            self._ended.add(order_id)
        return reports

    def _report(self, command: Command, kind: Any, exec_type: Any, **changes: Any) -> Report:
        number = self._numbers[command.order_id] = self._numbers.get(command.order_id, 0) + 1
        return Report(
            kind=kind,
            order_id=command.order_id,
            cl_ord_id=command.cl_ord_id,
            source="webhook",
            received_ns=1,
            exchange_order_id=f"V-{command.order_id[-4:]}",
            exec_id=f"{command.order_id}-{number}",
            exec_type=exec_type,
            venue_seq=number,
            **changes,
        )


@asynccontextmanager
async def running(seed: int) -> AsyncIterator[tuple[House, Venue, str]]:
    """The doors on a real port, the worker, the relay and the venue, in one loop."""
    async with house() as home:
        assert isinstance(home.bus, MemoryBus)
        venue, stop = Venue(home.bus, seed), asyncio.Event()
        outside = app.WorkerAdapters(
            bus=home.bus,
            store=home.store,
            watch=MemoryWatch(home.store),
            books=MemoryBooks(home.store, home.clock),
            breaks=MemoryBreaks(home.store),
            letters=MemoryLetters(home.clock),
            clock=home.clock,
            ids=home.ids,
        )
        service = await app.worker(home.settings, outside)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        parts: dict[str, Part] = {
            "http": lambda stopped: serve_http(home.web, "127.0.0.1", port, stopped),
            "relay": relay(home.store, home.bus),
            "venue": venue.run,
            **service.parts,
        }
        task = asyncio.create_task(run_parts(parts, stop))
        url = f"http://127.0.0.1:{port}"
        try:
            await eventually("the server answers", lambda: answers(url), 10, 0.01)
            yield home, venue, url
        finally:
            home.doors.stop.set()
            stop.set()
            home.bus.wake()
            await task


async def answers(url: str) -> bool:
    async with investor(url, 1) as client:
        return (await client.get("/orders")).status_code == 200


def investor(url: str, account: int) -> httpx.AsyncClient:
    headers = {"x-role": "investor", "x-account": str(account)}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=10, trust_env=False)


async def followed(
    url: str, account: int, until: Callable[[dict[str, Any]], bool], since: str | None = None
) -> list[dict[str, Any]]:
    """The account's events from the stream, up to the first for which `until` holds."""
    events: list[dict[str, Any]] = []
    query = {"since": since} if since else {}
    async with investor(url, account) as client, client.stream("GET", "/orders/stream", params=query) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: {") and name == "order":
                events.append(json.loads(line[6:]))
                if until(events[-1]):
                    break
    return events


@pytest.mark.parametrize("seed", range(3))
async def test_every_order_ends_and_everybody_is_told_once(seed: int) -> None:
    chooser = random.Random(seed)
    async with asyncio.timeout(60), running(seed) as (home, venue, url):
        made: dict[str, dict[str, Any]] = {}
        replaced = 0
        async with investor(url, 1) as first, investor(url, 2) as second:
            for i in range(60):
                client = (first, second)[i % 2]
                body = {**GOOD, "quantity": chooser.randint(2, 99), "amount": f"580.{chooser.randint(0, 9)}{i % 2}"}
                if i % 7 == 0:
                    body = {"orderType": "sell", "type": "MARKET", "symbol": "IBM", "quantity": 5}
                answer = await client.post("/orders", json=body)
                assert answer.status_code == 201, answer.text
                made[answer.json()["id"]] = answer.json()
                if i % 3 == 0:
                    await client.delete(f"/orders/{answer.json()['id']}")
                elif i % 5 == 0:
                    wanted = {"quantity": chooser.randint(2, 99), "amount": f"580.{chooser.randint(10, 30)}"}
                    asked = await client.patch(f"/orders/{answer.json()['id']}", json=wanted)
                    assert asked.status_code in (202, 409, 422), asked.text
                    replaced += asked.status_code == 202
            final = await settled(home, (first, second))
            held = [(await client.get("/account")).json() for client in (first, second)]
        assert set(final) == set(made)
        assert replaced
        assert [(account["openOrders"], account["cash"]["reserved"]) for account in held] == [(0, 0)] * 2
        assert await MemoryBooks(home.store, home.clock).differences() == []
        for order_id, order in final.items():
            assert order["cumQuantity"] == venue.fills.get(order_id, 0)
            assert (order["leavesQuantity"], order["pending"]) == (0, None)
            if order["status"] == "FILLED":
                assert (order["averagePrice"], order["quantity"]) == (580, order["cumQuantity"])
        for account in (1, 2):
            mine = [order for order in final.values() if order["accountId"] == account]
            last = max(order["accountSeq"] for order in mine)
            events = await followed(url, account, numbered(last), since="0")
            assert [event["accountSeq"] for event in events] == list(range(1, last + 1))
            assert len({event["eventId"] for event in events}) == len(events) == sum(o["version"] for o in mine)
            assert {e["orderId"]: e["order"] for e in events} == {o["id"]: o for o in mine}
        assert not await records(home, ORDER_STATUS + DLQ_SUFFIX)
        changes = sum(order["version"] for order in final.values())

        async def all_on_bus() -> bool:
            on_bus: list[OrderEvent] = [decode(OrderEvent, value) for value in await records(home, ORDER_EVENTS)]
            assert len({event.event_id for event in on_bus}) == changes
            return True

        await eventually("every change is on the bus", all_on_bus, 5, 0.02)


async def settled(home: House, clients: tuple[httpx.AsyncClient, ...]) -> dict[str, dict[str, Any]]:
    """Cancel what rests until every order is final; waits for the store to change, not for time to pass."""
    while True:
        changed = asyncio.ensure_future(home.store.outbox_changed())
        await asyncio.sleep(0)
        orders: dict[str, dict[str, Any]] = {}
        for client in clients:
            orders |= {o["id"]: o for o in (await client.get("/orders?limit=500")).json()["orders"]}
        live = [order for order in orders.values() if order["status"] not in FINAL]
        if not live:
            changed.cancel()
            return orders
        for order in live:
            if order["pending"] is None and order["status"] == "PLACED":
                await clients[order["accountId"] - 1].delete(f"/orders/{order['id']}")
        await changed


async def records(home: House, topic: str) -> list[bytes | None]:
    reader = await home.bus.read([topic], "earliest")
    found: list[bytes | None] = []
    while messages := await reader.batch(1000, 0.01):
        found += [message.value for message in messages]
    return found


async def test_a_live_stream_resumes_where_it_was_left() -> None:
    async with asyncio.timeout(30), running(1) as (_, _, url):
        async with investor(url, 1) as client:
            stream = asyncio.create_task(followed(url, 1, numbered(2), since="0"))
            await client.post("/orders", json={**GOOD, "amount": 580.20})
            seen = await stream
            second = (await client.post("/orders", json={**GOOD, "amount": 580.20})).json()["id"]
        rest = await followed(url, 1, filled(second), since=str(seen[-1]["accountSeq"]))
    numbers = [event["accountSeq"] for event in seen + rest]
    assert numbers == list(range(1, len(numbers) + 1))


def numbered(seq: int) -> Callable[[dict[str, Any]], bool]:
    return lambda event: bool(event["accountSeq"] >= seq)


def filled(order_id: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: bool(event["orderId"] == order_id and event["order"]["status"] == "FILLED")


async def test_poison_is_parked_and_the_next_report_is_applied() -> None:
    async with asyncio.timeout(30), running(1) as (home, _, url):
        producer = home.bus.producer()
        unknown = "01890000-0000-7000-8000-000000000001"
        stray = Report(
            kind="execution",
            order_id=unknown,
            cl_ord_id=unknown.replace("-", "") + "-1",
            source="webhook",
            received_ns=1,
            exec_type="NEW",
        )
        poison = [b"{", b"", b'{"kind":"execution"}']
        for value in (*poison, encode(stray)):
            await producer.send(ORDER_STATUS, unknown.encode(), value)
        async with investor(url, 1) as client:
            order = (await client.post("/orders", json={**GOOD, "amount": 580.20})).json()
        await followed(url, 1, filled(order["id"]), since="0")
        dead: list[bytes | None] = []
        while len(dead) < len(poison):
            dead = await records(home, ORDER_STATUS + DLQ_SUFFIX)
        assert dead == poison
        (found,) = home.store.breaks.values()
        assert (found.kind, found.subject) == ("missing_here", stray.cl_ord_id)
