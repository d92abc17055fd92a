"""The whole gateway on a bus in memory: against the twin, and against the simulator over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from exchange_gateway.app import Adapters, assemble, connected
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import NewOrder
from exchange_gateway.settings import Settings
from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import Ids, SystemClock
from infra.contracts import (
    INSTRUMENTS,
    MARKET_STATUS,
    ORDER_STATUS,
    ORDERS,
    PRICES,
    Instrument,
    MarketStatus,
    Reason,
    Report,
    Tick,
    Trade,
    decode,
    encode,
)
from infra.db import MemoryCheckpoints
from infra.process import Service, run_parts, run_service
from infra.settings import load
from tests.unit.exchange_gateway.simulated import (
    API_KEY,
    JWT_SECRET,
    WEBHOOK_SECRET,
    Simulator,
    first_quote,
    free_port,
    simulator,
)
from tests.unit.exchange_gateway.words import cancel, command, order_id, publish, read_all, until

SESSION = 1_700_000_000


def settings_of(**changes: str) -> Settings:
    told = {"venue_api_key": API_KEY, "webhook_secret": WEBHOOK_SECRET, "jwt_secret": JWT_SECRET} | changes
    return load(Settings, {f"XGW_{name.upper()}": value for name, value in told.items()})


class FrameList:
    """A feed source that has a list of frames and then stays open."""

    def __init__(self, *frames: bytes) -> None:
        self.all = frames
        self.asked: list[tuple[int | None, int | None]] = []

    async def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        self.asked.append((session, after))
        for frame in self.all:
            yield frame
        await asyncio.Event().wait()


class Twin(MemoryVenue):
    """The twin, which can be away."""

    away = False

    async def submit(self, order: NewOrder) -> Answer:
        if self.away:
            return Answer("not_sent", reason=Reason("venue_unreachable"))
        return await super().submit(order)


@dataclass
class House:
    """What stays when the gateway is restarted."""

    clock: SystemClock = field(default_factory=SystemClock)
    checkpoints: MemoryCheckpoints = field(default_factory=MemoryCheckpoints)
    feed: FrameList = field(default_factory=FrameList)

    def __post_init__(self) -> None:
        self.bus = MemoryBus(self.clock, retained_max=2_000_000)
        self.venue = Twin(self.clock, {"AAPL": (99_000_000, 101_000_000)}, SESSION)

    def gateway(self) -> Service:
        outside = Adapters(
            bus=self.bus,
            status_producer=self.bus.producer(),
            price_producer=self.bus.producer(),
            venue=self.venue,
            feed=self.feed,
            drop_copy=self.venue,
            checkpoints=self.checkpoints,
            clock=self.clock,
            ids=Ids(self.clock, seed=1),
        )
        return assemble(settings_of(venue_retry_s="0.05", venue_ask_s="0.05"), outside)

    async def reports(self, source: str = "") -> list[Report]:
        found: list[Report] = [decode(Report, record.value) for record in await read_all(self.bus, ORDER_STATUS)]
        return [report for report in found if source in ("", report.source)]


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_parts(service.parts, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def records(bus: MemoryBus, topic: str, at_least: int, seconds: float = 10.0) -> list[Message]:
    """Everything on a topic once there are so many records."""
    deadline = time.monotonic() + seconds
    while len(found := await read_all(bus, topic)) < at_least:
        assert time.monotonic() < deadline, f"{len(found)} of {at_least} records on {topic}"
    return found


async def test_a_command_becomes_reports_from_the_answer_and_the_drop_copy() -> None:
    house = House()
    async with running(house.gateway()):
        await publish(house.bus, command(limit_micros=101_000_000))
        await records(house.bus, ORDER_STATUS, 4)
    answered, copied = await house.reports("answer"), await house.reports("drop_copy")
    assert [(r.exec_type, r.cum_qty) for r in answered] == [("NEW", 0), ("TRADE", 10)]
    assert [r.exec_id for r in answered] == [r.exec_id for r in copied]
    assert {record.key for record in await read_all(house.bus, ORDER_STATUS)} == {order_id().encode()}
    events = [record.header("event-id") for record in await read_all(house.bus, ORDER_STATUS)]
    assert len(set(events)) == 4


async def test_a_malformed_command_is_parked_with_its_bytes_and_the_next_one_is_handled() -> None:
    house = House()
    async with running(house.gateway()):
        await publish(house.bus, b'{"kind":"submit","quantity":1.5}', key=order_id())
        await publish(house.bus, command())
        await records(house.bus, ORDER_STATUS, 2)
        [parked] = await records(house.bus, f"{ORDERS}.dlq", 1)
    assert (parked.key, parked.value) == (order_id().encode(), b'{"kind":"submit","quantity":1.5}')
    assert parked.header("kafka_dlt-exception-fqcn") == b"malformed"
    assert parked.header("__connect.errors.exception.message")
    assert parked.header("event-id") == b"e"
    assert {r.exec_type for r in await house.reports()} == {"NEW"}


async def test_an_outage_parks_nothing_and_drains_afterwards() -> None:
    house = House()
    house.venue.away = True
    async with running(house.gateway()):
        for number in range(1, 21):
            await publish(house.bus, command(number))
            await publish(house.bus, cancel(number))
        await asyncio.sleep(0.3)
        assert await house.reports() == []
        house.venue.away = False
        await records(house.bus, ORDER_STATUS, 80, 20)
    assert not await read_all(house.bus, f"{ORDERS}.dlq")
    by_order = defaultdict(list)
    for report in await house.reports("answer"):
        by_order[report.order_id].append(report.exec_type)
    assert list(by_order.values()) == [["NEW", "CANCELED"]] * 20


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
