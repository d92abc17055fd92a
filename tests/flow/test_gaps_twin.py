"""Ticks that the venue's feed leaves out, from the hole in the numbers to a whole store: gateway and price service on a
bus in memory, towards the exchange in the same process and towards a running one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx
import pytest

from exchange_gateway.feed.feed import FeedSource
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.feed.market_http import HttpMarketData
from exchange_gateway.feed.on_request import MarketData
from exchange_gateway.simulator.chaos import Chaos, Rule
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.inprocess import InProcessMarketData
from exchange_gateway.simulator.replay import Pace, Replay
from exchange_gateway.simulator.ring import Ring
from exchange_gateway.simulator.synthetic import symbol_names
from exchange_gateway.simulator.tape import synthetic
from exchange_gateway.simulator.venue import Venue
from exchange_gateway.venue import ResentTicks
from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from infra.contracts import DEPTH, Depth, Quote, Tick, Trade, decode, encode
from infra.process import background, run_parts
from infra.settings import Infra
from infra.telemetry import GAP_CLOSED
from price_service.app import WorkerAdapters, assemble
from price_service.domain.bars import MINUTE_NS, Bar
from price_service.gaps import closer
from price_service.gaps.resend_http import HttpResender
from price_service.live.venue_http import HttpVenueQuotes
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices
from tests.flow.gateway_house import FrameList, House
from tests.flow.venue_running import KEY, running
from tests.unit.exchange_gateway.words import read_all

ROWS, SYMBOLS = 6000, 5
DEADLINE_S = 20.0
SETTINGS = Settings(infra=Infra(), gaps_wait_ms=100, gaps_requests_max=50)


@dataclass
class Sides:
    """Gateway and price worker on one bus."""

    bus: MemoryBus
    store: MemoryPrices
    worker: httpx.AsyncClient
    gateway: httpx.ASGITransport

    async def until_stored(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.store.ticks) < count:  # noqa: ASYNC110 - other tasks store
                await asyncio.sleep(0.02)

    async def gaps(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await self.worker.get("/gaps")).json()
        return found


async def truth_of(market: MarketData) -> list[Tick]:
    """Every tick that the venue has."""
    ticks: list[Tick] = []
    for symbol in symbol_names(SYMBOLS):
        newest = await market.newest(symbol)
        assert newest
        count: int = max(decode(Tick, bytes(raw)).q for raw in newest.ticks)
        for first in range(1, count + 1, 1000):
            some = await market.resend(newest.session, symbol, first, min(first + 999, count))
            assert some.missing == []
            ticks += [decode(Tick, bytes(raw)) for raw in some.ticks]
    return ticks


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closer, "LOOK_EVERY_S", 0.05)


@contextlib.asynccontextmanager
async def sides(feed: FeedSource, market: MarketData) -> AsyncIterator[Sides]:
    house, store, stop = House(source=feed, market_data=market), MemoryPrices(), asyncio.Event()
    gateway = house.gateway()
    internal = httpx.ASGITransport(gateway.app)
    resender = HttpResender("http://gateway", internal)
    outside = WorkerAdapters(
        bus=house.bus,
        producer=house.bus.producer(),
        store=store,
        cache=MemoryCache(house.clock),
        resender=resender,
        clock=house.clock,
    )
    worker = assemble(SETTINGS, outside)
    parts = {f"{service.name}.{name}": part for service in (gateway, worker) for name, part in service.parts.items()}
    task = asyncio.create_task(run_parts(parts, stop))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(worker.app), base_url="http://worker") as client:
        try:
            yield Sides(house.bus, store, client, internal)
        finally:
            stop.set()
            await task
            await resender.close()


def bars_of(ticks: list[Tick]) -> dict[tuple[str, int], Bar]:
    """Every minute from all its trades at once."""
    made: dict[tuple[str, int], Bar] = {}
    for tick in ticks:
        if isinstance(tick, Trade):
            minute = tick.t // MINUTE_NS * MINUTE_NS
            made.setdefault((tick.s, minute), Bar(tick.s, minute)).add(tick)
    return made


def assert_whole(store: MemoryPrices, truth: list[Tick]) -> None:
    """Every tick of the venue once, and bars that equal a recomputation."""
    stored: dict[str, list[int]] = defaultdict(list)
    for received in store.ticks:
        stored[received.tick.s].append(received.tick.q)
    expected: dict[str, list[int]] = defaultdict(list)
    for tick in truth:
        expected[tick.s].append(tick.q)
    assert {s: sorted(numbers) for s, numbers in stored.items()} == dict(expected)
    held = {(symbol, minute): bar for symbol, bars in store.bars.items() for minute, bar in bars.items()}
    assert held == bars_of(truth)


class Counted(InProcessMarketData):
    """A venue that counts the connections to its feed."""

    connections = 0

    def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        self.connections += 1
        return super().frames(session, after)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(kind="missing_tick", every=9, to_event=ROWS // 2),
        Rule(kind="missing_tick", probability=0.02, to_event=ROWS // 2),
        Rule(kind="missing_tick", from_event=1000, to_event=3000),
        Rule(kind="reordered_ticks", every=5, to_event=ROWS // 2),
        Rule(kind="duplicate_tick", every=5),
    ],
    ids=lambda rule: f"{rule.kind}-{rule.every or rule.probability or 'block'}",
)
async def test_what_the_feed_left_out_is_stored_in_the_end(rule: Rule) -> None:
    clock = ManualClock()
    desk = Desk(Venue(), DropCopy(), None, lambda _: None, clock)
    chaos, closed = Chaos(Random(1), clock, [rule]), GAP_CLOSED._value.get()
    venue = Feed(Ring(2 * ROWS), ROWS, chaos)
    pace = Pace(speed=None, loops=1, frame_ticks_max=20, tape_clock=True)
    replay = Replay(synthetic(SYMBOLS, ROWS, seed=3), desk, venue, pace, clock)
    replay.prepare()
    market = Counted(venue, symbol_names(SYMBOLS))
    async with sides(market, market) as made:
        async with background(replay.run):
            await made.until_stored(ROWS)
        assert_whole(made.store, await truth_of(market))
        async with asyncio.timeout(DEADLINE_S):
            while await made.gaps():  # noqa: ASYNC110 - the next look takes note
                await asyncio.sleep(0.02)
    assert market.connections <= 2, "a hole that stays is the venue's, and not connected for again and again"
    if rule.kind == "missing_tick":
        assert GAP_CLOSED._value.get() - closed == chaos.shown()[0]["applied"], "each by asking for it"


class Forgetful(InProcessMarketData):
    """A venue that has nothing older than tick 5."""

    async def resend(self, session: int, symbol: str, first: int, last: int) -> ResentTicks:
        if last < 5:
            return ResentTicks([], [(first, last)])
        found = await super().resend(session, symbol, max(first, 5), last)
        return ResentTicks(found.ticks, [(first, 4)])


async def test_what_the_venue_no_longer_has_is_given_up_and_shown() -> None:
    clock, session = ManualClock(), 1_700_000_000
    venue = Feed(Ring(100), 50, Chaos(Random(1), clock, [Rule(kind="missing_tick", from_event=3, to_event=6)]))
    market = Forgetful(venue, ["AAA"])
    venue.open(session, [], session * 10**9)
    for q in range(1, 9):
        venue.publish([Trade("AAA", session, q, session * 10**9, 100_000_000, 1, 1)])
    async with sides(market, market) as made:
        await made.until_stored(6)
        async with asyncio.timeout(DEADLINE_S):
            while [line["state"] for line in await made.gaps()] != ["lost"]:  # noqa: ASYNC110 - other tasks ask
                await asyncio.sleep(0.02)
        (line,) = await made.gaps()
        assert (line["symbol"], line["session"], line["from"], line["to"]) == ("AAA", session, 3, 4)
        assert sorted(received.tick.q for received in made.store.ticks) == [1, 2, 5, 6, 7, 8]


async def test_a_reader_s_question_brings_the_quote_and_then_what_led_to_it() -> None:
    """A gateway whose feed says nothing: the newest ticks come by request, and the numbers below them are a gap."""
    venue, session = Feed(Ring(100), 50), 1_700_000_000
    venue.open(session, [], session * 10**9)
    venue.publish([Trade("AAA", session, q, session * 10**9, 100_000_000, 1, 1) for q in range(1, 6)])
    venue.publish([Quote("AAA", session, 6, session * 10**9, 99_000_000, 1, 101_000_000, 1)])
    market = InProcessMarketData(venue, ["AAA"])
    async with sides(FrameList(), market) as made:
        quotes = HttpVenueQuotes("http://gateway", made.gateway)
        assert [(tick.session, tick.q) for tick in await quotes.publish("AAA")] == [(session, 5), (session, 6)]
        assert await quotes.publish("NONE") == []
        await made.until_stored(6)
    assert sorted(received.tick.q for received in made.store.ticks) == [1, 2, 3, 4, 5, 6]


async def test_over_the_network_with_quotes_and_books_beside(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.json"
    rule = Rule(kind="missing_tick", every=20, from_event=200, to_event=ROWS // 2)
    scenario.write_bytes(encode({"rules": [rule]}))
    told = {"tape_speed": "max", "tape_loops": "1", "tape_synthetic_rows": str(ROWS), "tape_clock": "tape"}
    async with (
        running(tmp_path, scenario=str(scenario), depth_flush_ms="5", **told) as exchange,
        httpx.AsyncHTTPTransport(trust_env=False) as transport,
    ):
        url, key = f"http://127.0.0.1:{exchange.port}", KEY["authorization"].removeprefix("Bearer ")
        market = HttpMarketData(transport, url, key, 5.0)
        async with sides(WsFeedSource(url, key, depth=True), market) as made:
            await made.until_stored(ROWS)
            assert_whole(made.store, await truth_of(market))
            books: list[Depth] = [decode(Depth, record.value) for record in await read_all(made.bus, DEPTH)]
    assert {book.s for book in books} == set(symbol_names(SYMBOLS))
    assert any(len(book.bids) == len(book.asks) == 10 for book in books)
