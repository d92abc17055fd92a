"""The whole gateway on a bus in memory: against the twin, and against the simulator over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from exchange_gateway.app import connected
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.orders.venue_memory import MemoryVenue
from infra.clock import Ids
from infra.contracts import (
    INSTRUMENTS,
    MARKET_STATUS,
    ORDER_STATUS,
    ORDERS,
    PRICES,
    SWITCHED_OFF,
    SWITCHES,
    Instrument,
    MarketStatus,
    Report,
    Snapshot,
    Switch,
    Tick,
    Trade,
    decode,
    encode,
    status_message,
)
from infra.process import Service, run_service
from tests.flow.gateway_house import NEW_ORDER, SESSION, House, crash, records, running, settings_of, until_told
from tests.unit.exchange_gateway.simulated import (
    API_KEY,
    Simulator,
    first_quote,
    free_port,
    simulator,
)
from tests.unit.exchange_gateway.words import cancel, command, order_id, publish, read_all, until


async def test_a_command_becomes_reports_from_the_answer_and_the_drop_copy() -> None:
    house = House()
    async with running(house.gateway()):
        await publish(house.bus, command(limit_micros=101_000_000))
        await records(house.bus, ORDER_STATUS, 4)
    answered, copied = await house.reports("answer"), await house.reports("drop_copy")
    assert [(r.exec_type, r.cum_qty) for r in answered] == [("NEW", 0), ("TRADE", 10)]
    assert [r.exec_id for r in answered] == [r.exec_id for r in copied]
    told = await records(house.bus, ORDER_STATUS, 4)
    assert {record.key for record in told} == {order_id().encode()}
    events = [record.header("event-id") for record in told]
    assert len(set(events)) == 4


async def test_a_malformed_command_is_parked_with_its_bytes_and_other_orders_go_on() -> None:
    house = House()
    broken = b'{"kind":"submit","quantity":1.5}'
    change = command(request=2, kind="replace", orig_cl_ord_id=command().cl_ord_id)
    async with running(house.gateway()):
        await publish(house.bus, broken, key=order_id())
        await publish(house.bus, change)
        await publish(house.bus, cancel(request=3))
        await publish(house.bus, command(2))
        await records(house.bus, ORDER_STATUS, 5)
        parked, blocked = await records(house.bus, f"{ORDERS}.dlq", 2)
    assert (parked.key, parked.value) == (order_id().encode(), broken)
    assert parked.header("kafka_dlt-exception-fqcn") == b"malformed"
    assert parked.header("__connect.errors.exception.message")
    assert parked.header("event-id") == b"e"
    assert (blocked.value, blocked.header("kafka_dlt-exception-fqcn")) == (encode(change), b"blocked_by")
    answered = await house.reports("answer")
    assert [(r.outcome, r.cl_ord_id[-1]) for r in answered if r.order_id == order_id()] == [
        ("parked", "1"),
        ("not_sent", "2"),
        ("not_sent", "1"),  # canceled before it could ever be sent
    ]
    assert [r.exec_type for r in answered if r.order_id == order_id(2)] == ["NEW"]


async def test_an_outage_parks_nothing_and_drains_in_batches_afterwards() -> None:
    house = House()
    house.venue.away = True
    async with running(house.gateway()):
        for number in range(1, 151):
            await publish(house.bus, command(number))
            await publish(house.bus, cancel(number))
        await until(lambda: house.venue.refused >= 5)
        await asyncio.sleep(0.3)
        assert await house.reports() == []
        assert house.venue.refused < 100, "the breaker holds back what would not arrive"
        house.venue.away = False
        await records(house.bus, ORDER_STATUS, 600, 20)
    assert not await read_all(house.bus, f"{ORDERS}.dlq")
    by_order = defaultdict(list)
    for report in await house.reports("answer"):
        by_order[report.order_id].append(report.exec_type)
    assert list(by_order.values()) == [["NEW", "CANCELED"]] * 150
    assert max(house.venue.batches) > 10


async def test_an_order_that_is_asked_about_delays_no_other() -> None:
    house = House()
    house.venue.lost = {command(1).cl_ord_id}
    async with running(house.gateway(venue_ask_s="30")):
        await publish(house.bus, command(2))
        await records(house.bus, ORDER_STATUS, 2)
        await publish(house.bus, command(1))
        await until(lambda: house.venue.queries)
        for number in range(3, 40):
            await publish(house.bus, command(number))
        await records(house.bus, ORDER_STATUS, 76)
        assert await house.reports("query") == []
        house.venue.lost = set()
        await until_told(house, lambda told: any(report.source == "query" for report in told))
    assert [report.order_id for report in await house.reports("query")] == [order_id(1)]


async def test_a_kill_switch_holds_orders_back_and_lets_cancels_pass() -> None:
    house = House()
    switch = Switch(scope="symbol:AAPL", mode="cancel_only", reason="a drill", by="operator", at_ns=1)
    async with running(house.gateway()):
        await publish(house.bus, command(1))
        await records(house.bus, ORDER_STATUS, 2)
        await house.bus.producer().send(SWITCHES, b"symbol:AAPL", encode(switch))
        async with asyncio.timeout(5):
            for number in range(2, 1000):
                await publish(house.bus, command(number))
                await records(house.bus, ORDER_STATUS, number)
                if (last := (await house.reports("answer"))[-1]).outcome == "not_sent":
                    break
        assert last.reason
        assert last.reason.code == SWITCHED_OFF
        await publish(house.bus, cancel(1))
        await until_told(house, lambda told: any(report.exec_type == "CANCELED" for report in told))


async def test_nothing_is_sent_before_the_venues_side_is_published() -> None:
    house = House()
    await MemoryVenue.submit(house.venue, NEW_ORDER)
    house.venue.books_away = True
    service = house.gateway()
    async with running(service):
        await publish(house.bus, command(1))
        await asyncio.sleep(0.3)
        assert house.venue.batches == []
        assert not service.ready["orders"]()
        house.venue.books_away = False
        await until_told(house, lambda told: any(report.order_id == order_id(1) for report in told))
    said = [status_message(record.value) for record in await read_all(house.bus, ORDER_STATUS)]
    [end] = [part for part in said if isinstance(part, Snapshot) and part.part == "end"]
    assert (end.orders_total, end.why) == (1, "start")


async def test_crashes_in_the_middle_of_sending_double_nothing() -> None:
    house = House()
    for turn in range(6):
        for number in range(10 * turn, 10 * turn + 10):
            await publish(house.bus, command(number, limit_micros=101_000_000))
        seen = len(house.venue.batches)
        stop = asyncio.Event()
        crashed = [asyncio.ensure_future(part(stop)) for part in house.gateway().parts.values()]
        await until(lambda: len(house.venue.batches) > seen)  # noqa: B023 - awaited here
        await crash()
        assert all(part.done() for part in crashed)
    async with running(house.gateway()):
        await until_told(
            house, lambda told: len({r.order_id for r in told if r.exec_type and r.source in ("answer", "query")}) == 60
        )
    assert (await house.venue.orders(0, 100)).total == 60
    assert (await house.venue.executions(0, 100)).total == 60
    assert house.venue.duplicates == 0, "what the venue had was asked about, not sent again"
    assert {report.outcome for report in await house.reports()} == {None}


async def test_a_restart_repeats_no_committed_command_and_goes_on_where_it_was() -> None:
    house = House()
    tick = encode(Trade(s="AAPL", d=SESSION, q=1, t=1, p=1, z=1))
    status = encode({"type": "status", "status": MarketStatus(kind="open", session=SESSION, at_ns=1)})
    instrument = Instrument(symbol="AAPL", name="Apple", tick_micros=10_000, lot=1, session=SESSION)
    house.feed.all = (
        encode({"type": "instruments", "instruments": [instrument]}),
        status,
        b'{"type":"ticks","session":%d,"n":1,"ticks":[%b]}' % (SESSION, tick),
    )
    for number in (1, 2):
        service = house.gateway()
        async with running(service):
            await publish(house.bus, command(number))
            await records(house.bus, ORDER_STATUS, 2 * number)
            await records(house.bus, PRICES, number)
            await until(lambda: all(ready() for ready in service.ready.values()))  # noqa: B023 - awaited here
    assert house.feed.asked == [(None, None), (SESSION, 1)]
    assert await house.checkpoints.read("drop_copy") == "2"
    assert len(await house.reports("answer")) == 2
    assert [r.value for r in await read_all(house.bus, INSTRUMENTS)] == [encode(instrument)] * 2
    assert {r.key for r in await read_all(house.bus, MARKET_STATUS)} == {b"*"}


# -- over sockets ------------------------------------------------------------------------------------------------------


@dataclass
class Wired(House):
    """The gateway on its real adapters, except bus and checkpoints."""

    port: int = field(default_factory=free_port)
    venue_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.venue_port}"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Service]:
        stop = asyncio.Event()
        settings = settings_of(venue_port=str(self.venue_port))
        async with connected(settings, self.bus, self.checkpoints, self.clock, Ids(self.clock, seed=1)) as service:
            task = asyncio.create_task(run_service(service, "127.0.0.1", self.port, stop))
            try:
                yield service
            finally:
                stop.set()
                await task

    async def ticks(self) -> dict[tuple[str, int], set[int]]:
        found = defaultdict(set)
        for record in await read_all(self.bus, PRICES):
            tick: Tick = decode(Tick, record.value)
            found[tick.s, tick.d].add(tick.q)
        return found


@contextlib.asynccontextmanager
async def venue_process(folder: Path, told: dict[str, str]) -> AsyncIterator[Simulator]:
    """The simulator, started and ended without holding up the gateway in this event loop."""
    with contextlib.ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, simulator(folder, **told))
        await asyncio.to_thread(stack.close)


@pytest.mark.timeout(120)
async def test_three_sources_say_the_same_and_no_tick_is_lost_over_restarts(tmp_path: Path) -> None:
    house = Wired()
    told = {"webhook_url": f"http://127.0.0.1:{house.port}/webhooks", "venue_port": str(house.venue_port)}
    async with venue_process(tmp_path, told) as venue:
        async with house.serving():
            frames = WsFeedSource(house.url, API_KEY).frames(None, None)
            quote = await first_quote(frames)
            await frames.aclose()  # type: ignore[attr-defined]
            far: dict[str, Any] = {"symbol": quote.s, "limit_micros": quote.b // 20_000 * 10_000}
            await publish(house.bus, command(1, **far))
            await publish(house.bus, cancel(1))
            await publish(house.bus, command(2, symbol=quote.s, type="MARKET", limit_micros=None, quantity=1))
            await records(house.bus, ORDER_STATUS, 12)
            await records(house.bus, PRICES, 200)
        ids = {source: {r.exec_id for r in await house.reports(source)} for source in ("answer", "webhook")}
        assert ids["answer"] == ids["webhook"] == {r.exec_id for r in await house.reports("drop_copy")}
        before = len(await read_all(house.bus, PRICES))
        async with house.serving() as service:  # a new gateway, from the stored positions
            await records(house.bus, PRICES, before + 200)
            venue.process.send_signal(signal.SIGKILL)
            venue.process.wait(10)
            await until(lambda: not service.ready["feed"]())
            await publish(house.bus, command(3, **far))
            async with venue_process(tmp_path, told):
                reported = await records(house.bus, ORDER_STATUS, 15, 30)
    third: list[Report] = [decode(Report, r.value) for r in reported if r.key == order_id(3).encode()]
    assert {report.exec_type for report in third} == {"NEW"}
    for (symbol, session), numbers in (await house.ticks()).items():
        holes = set(range(min(numbers), max(numbers) + 1)) - numbers
        assert not holes, (symbol, session, len(holes))
