"""The quote table, its frames, who gets them, and the hub on twins."""

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
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, MarketStatus, encode
from infra.process import background
from price_service.domain.days import Day, Snapshot
from price_service.live.followers import Followers
from price_service.live.frames import quote_frame
from price_service.live.hub import Hub
from price_service.live.quotes import QuoteTable
from price_service.store.cached import MAP, fields
from price_service.store.records import StoreAway
from tests.unit.price_service.made import RECEIVED_MS, SESSION, quote, trade

# fmt: off
KEYS = [
    "symbol", "name", "price", "size", "bid", "bidSize", "ask", "askSize", "open", "high", "low", "previousClose",
    "change", "changePercent", "volume", "time", "receivedAt", "stale",
]
# fmt: on


def table(*ticks: Any) -> QuoteTable:
    made = QuoteTable(stale_after_ms=5_000)
    for tick in ticks:
        made.tick(tick, 0, RECEIVED_MS)
    return made


def read(raw: bytes) -> dict[str, Any]:
    return dict(json.loads(raw, parse_float=Decimal))


def test_a_quote_in_words() -> None:
    quotes = table(trade(1, 580_250_000, 7), quote(2, bid=580_240_000, ask=580_260_000, size=3), trade(3, 581_000_000))
    quotes.listed(Instrument("AAPL", 'Apple "Inc."', 10_000, 1, SESSION, 575_000_000))
    raw = quotes.quote("AAPL")
    assert b'"price":581.00,' in raw
    found = read(raw)
    assert list(found) == KEYS
    assert found == {
        "symbol": "AAPL",
        "name": 'Apple "Inc."',
        "price": Decimal(581),
        "size": 100,
        "bid": Decimal("580.24"),
        "bidSize": 3,
        "ask": Decimal("580.26"),
        "askSize": 3,
        "open": Decimal("580.25"),
        "high": Decimal(581),
        "low": Decimal("580.25"),
        "previousClose": Decimal(575),
        "change": Decimal(6),
        "changePercent": Decimal("1.0435"),
        "volume": 107,
        "time": "2023-11-14T22:13:20.003000000Z",
        "receivedAt": "2023-11-14T22:13:20.000Z",
        "stale": False,
    }


def test_what_is_not_known_is_null() -> None:
    quotes = QuoteTable(5_000)
    quotes.listed(Instrument("NEW", "New", 10_000, 1, SESSION))
    found = read(quotes.quote("NEW"))
    assert {key for key, value in found.items() if value is None} == set(KEYS) - {"symbol", "name", "volume", "stale"}
    assert read(table(quote(1, bid=0, size=9)).quote("AAPL"))["bidSize"] is None


def test_a_new_session_starts_a_new_day_and_an_old_ones_ticks_are_passed_over() -> None:
    quotes = table(trade(1, 5), trade(2, 6))
    quotes.listed(Instrument("AAPL", "Apple", 10_000, 1, SESSION, 4_000_000))
    assert quotes.tick(trade(1, 9, session=SESSION + 1), 0, RECEIVED_MS)
    assert not quotes.tick(trade(3, 7), 0, RECEIVED_MS)
    found = read(quotes.quote("AAPL"))
    assert (found["open"], found["volume"], found["previousClose"]) == (Decimal("0.000009"), 100, None)


def test_a_quote_is_stale_by_receive_time_and_only_while_a_session_is_open() -> None:
    quotes = table(trade(1))
    late = RECEIVED_MS + 5_001
    quotes.changed()
    quotes.age(late)
    assert quotes.changed() == set()
    quotes.status(MarketStatus("open", SESSION, 0))
    quotes.age(RECEIVED_MS + 5_000)
    assert quotes.changed() == set()
    quotes.age(late)
    assert quotes.changed() == {"AAPL"}
    assert read(quotes.quote("AAPL"))["stale"]
    quotes.tick(trade(2), 0, late)
    assert not read(quotes.quote("AAPL"))["stale"]
    quotes.age(late + 6_000)
    quotes.status(MarketStatus("close", SESSION, 0))
    quotes.age(late + 7_000)
    assert not read(quotes.quote("AAPL"))["stale"]


def test_a_frame_has_the_receive_time_as_its_id() -> None:
    assert quote_frame(b"{}", 1_700_000_000_123) == b"id: 1700000000123\ndata: {}\n\n"


async def test_a_follower_gets_a_snapshot_first_and_then_only_what_changed() -> None:
    followers = Followers()
    followers.publish({"A": b"a1", "B": b"b1", "C": b"c1"})
    follower = followers.join(["B", "A", "Z"])
    assert await follower.chunk() == b"a1b1"
    followers.publish({"C": b"c2"})
    followers.publish({"A": b"a2", "C": b"c3"})
    assert await follower.chunk() == b"a2"
    followers.publish({"Z": b"z1"})
    assert await follower.chunk() == b"z1"


async def test_a_slow_follower_gets_the_newest_of_each_symbol_once() -> None:
    followers = Followers()
    slow, quick = followers.join(["A", "B"]), followers.join(["A"])
    for i in range(1_000):
        followers.publish({"A": b"a%d " % i, "B": b"b%d " % i})
        assert await quick.chunk() == b"a%d " % i
    assert await slow.chunk() == b"a999 b999 "


async def test_a_follower_that_leaves_while_waiting_is_let_go() -> None:
    followers = Followers()
    follower = followers.join(["A"])
    waiting = asyncio.create_task(follower.chunk())
    await asyncio.sleep(0)
    assert followers.leave(follower)
    assert not followers.leave(follower)
    assert await waiting == b""
    assert len(followers) == 0


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


async def test_a_hub_streams_ticks_and_listings_and_passes_over_junk() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    producer = bus.producer()
    async with running(bus, MemoryCache(clock), Snapshots(None), clock) as hub:
        follower = hub.followers.join(["AAPL"])
        producer.send(PRICES, b"AAPL", b"junk")
        producer.send(INSTRUMENTS, b"AAPL", b"junk")
        producer.send(INSTRUMENTS, b"AAPL", None)
        producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", SESSION, 0)))
        producer.send(PRICES, b"AAPL", encode(trade(1, 5_000_000)))
        assert b'"price":5.00' in await asyncio.wait_for(follower.chunk(), 2)
        producer.send(INSTRUMENTS, b"AAPL", encode(Instrument("AAPL", "Apple", 10_000, 1, SESSION, 4_000_000)))
        assert b'"name":"Apple"' in await asyncio.wait_for(follower.chunk(), 2)


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
