"""The hub on twins: what it starts from, what it streams, and that it gives way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from infra.bus_memory import MemoryBus
from infra.cache import CacheDown
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, MarketStatus, Tick, encode
from infra.process import background
from price_service.domain.days import Day, Snapshot
from price_service.live import hub as module
from price_service.live.framings import EVENTS
from price_service.live.hub import Hub
from price_service.live.pulled import Pulled
from price_service.store.cached import MAP, fields
from price_service.store.records import StoreAway
from tests.unit.price_service.made import RECEIVED_MS, SESSION, trade
from tests.unit.price_service.sinks import WORDS


def read(raw: bytes) -> dict[str, Any]:
    return dict(json.loads(raw, parse_float=Decimal))


class Snapshots:
    def __init__(self, found: Snapshot | None) -> None:
        self._found = found

    async def snapshot(self) -> Snapshot:
        if self._found is None:
            raise StoreAway("down")
        return self._found


class DownCache(MemoryCache):
    async def read_map(self, name: str) -> dict[str, bytes]:
        raise CacheDown("down")


class Taken:
    """A tap that keeps what it is told."""

    def __init__(self) -> None:
        self.ticks: list[tuple[Tick, bytes]] = []

    def tick(self, tick: Tick, partition: int, received_ms: int, value: bytes) -> None:
        assert (partition >= 0, received_ms > 0) == (True, True)
        self.ticks.append((tick, value))


@asynccontextmanager
async def running(bus: MemoryBus, cache: MemoryCache, store: Snapshots, clock: ManualClock) -> AsyncIterator[Hub]:
    hub = Hub(bus, cache, store, clock, flush_ms=1, stale_after_ms=5_000, first_wait_s=0.01, wait_s=0.01)
    async with background(hub.run), background(hub.follow_listings):
        async with asyncio.timeout(5):
            while not hub.ready():  # noqa: ASYNC110 - the hub shows its readiness, it does not announce it
                await asyncio.sleep(0.001)
        yield hub


def day(*ticks: Any) -> Day:
    made = Day("AAPL", SESSION, 0)
    for tick in ticks:
        made.apply(tick, RECEIVED_MS)
    return made


async def pulled(sink: Pulled) -> bytes:
    async with asyncio.timeout(2):
        return await sink.pull()


async def test_a_hub_streams_ticks_and_listings_and_passes_over_junk() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    producer = bus.producer()
    async with running(bus, MemoryCache(clock), Snapshots(None), clock) as hub:
        sink = Pulled()
        hub.followers.join(["AAPL"], sink, EVENTS)
        producer.send(PRICES, b"AAPL", b"junk")
        producer.send(INSTRUMENTS, b"AAPL", b"junk")
        producer.send(INSTRUMENTS, b"AAPL", None)
        producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", SESSION, 0)))
        producer.send(PRICES, b"AAPL", encode(trade(1, 5_000_000)))
        assert b'"price":5.00' in await pulled(sink)
        producer.send(INSTRUMENTS, b"AAPL", encode(Instrument("AAPL", "Apple", 10_000, 1, SESSION, 4_000_000)))
        assert b'"name":"Apple"' in await pulled(sink)


async def test_a_new_client_need_not_wait_for_the_next_tick() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.producer().send(PRICES, b"AAPL", encode(trade(1, 5_000_000)))
    async with running(bus, MemoryCache(clock), Snapshots(None), clock) as hub:
        sink = Pulled()
        hub.followers.join(["AAPL"], sink, EVENTS)
        event = await pulled(sink)
        assert event.startswith(b"id: %d\ndata: {" % RECEIVED_MS)
        assert event.endswith(b"}\n\n")


async def test_a_tap_gets_each_new_tick_of_its_symbol_once() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    producer = bus.producer()
    async with running(bus, MemoryCache(clock), Snapshots(None), clock) as hub:
        tap = Taken()
        hub.taps["AAPL"] = {tap}
        sent = [trade(1), trade(2), trade(2), trade(1, symbol="MSFT"), trade(3)]
        for tick in sent:
            producer.send(PRICES, tick.s.encode(), encode(tick))
        async with asyncio.timeout(2):
            while len(tap.ticks) < 3:  # noqa: ASYNC110 - a tap announces nothing
                await asyncio.sleep(0.001)
        assert tap.ticks == [(tick, encode(tick)) for tick in (trade(1), trade(2), trade(3))]


async def test_a_quiet_line_hears_a_heartbeat(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "AGE_EVERY_S", 0.01)
    clock = ManualClock()
    bus = MemoryBus(clock)
    async with running(bus, MemoryCache(clock), Snapshots(None), clock) as hub:
        sink = Pulled()
        hub.followers.join(["AAPL"], sink, WORDS)
        clock.advance(module.BEAT_EVERY_S)
        assert await pulled(sink) == b"beat"


async def test_a_large_flush_gives_way_to_others(monkeypatch: Any) -> None:
    """As often as the steps of its slices demand, whatever the machine's speed."""
    clock = ManualClock()
    hub = Hub(MemoryBus(clock), MemoryCache(clock), Snapshots(None), clock, flush_ms=1, stale_after_ms=5_000)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for _ in range(10 * 32 * module.SLICE_STEPS_MAX):
        hub.followers.join(["AAPL"], Pulled(), EVENTS)
    hub.table.tick(trade(1), 0, RECEIVED_MS)
    counting = asyncio.create_task(count_turns())
    await hub._flush()
    counting.cancel()
    assert turns >= 9
    assert hub.followers.counts.writes == 10 * 32 * module.SLICE_STEPS_MAX


async def test_a_hub_goes_on_from_the_cache_without_counting_anything_twice() -> None:
    clock = ManualClock()
    bus, cache = MemoryBus(clock), MemoryCache(clock)
    ticks = [trade(q, size=q) for q in range(1, 6)]
    for tick in ticks:
        bus.producer().send(PRICES, b"AAPL", encode(tick))
    partition = (await (await bus.read([PRICES], "earliest")).batch(1, 0))[0].partition
    # The day is newer than the offset, as after a write that another one has overtaken.
    await cache.write_map(MAP, fields({partition: 2}, [day(*ticks[:4])]))
    async with running(bus, cache, Snapshots(None), clock) as hub:
        assert read(hub.quotes["AAPL"])["volume"] == 15


async def test_without_the_cache_a_hub_starts_from_the_store_and_without_both_from_the_bus() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    for q in (1, 2):
        bus.producer().send(PRICES, b"AAPL", encode(trade(q)))
    unreadable = MemoryCache(clock)
    await unreadable.write_map(MAP, {"q:AAPL": b"{}", "o:1": b"x"})
    stored = Snapshot({}, []), Snapshot({0: 0}, [day(trade(1, symbol="AAPL"))]), None
    for cache in (DownCache(clock), unreadable, MemoryCache(clock)):
        for found in stored:
            async with running(bus, cache, Snapshots(found), clock) as hub:
                assert read(hub.quotes["AAPL"])["volume"] == 200
