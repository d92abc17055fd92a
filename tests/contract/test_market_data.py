"""What the gateway may rely on when it asks for ticks (docs/venue-api.md): the simulator in the same process and the
real adapter over the simulator pass the same tests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from exchange_gateway.feed.feed import FeedSource
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.feed.frames import Status, TickId, Ticks, frame_of
from exchange_gateway.feed.market_http import HttpMarketData
from exchange_gateway.feed.on_request import RESEND_MAX, MarketData
from exchange_gateway.simulator import market_answers
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.inprocess import InProcessMarketData
from exchange_gateway.simulator.replay import Pace, Replay
from exchange_gateway.simulator.ring import Ring
from exchange_gateway.simulator.synthetic import symbol_names
from exchange_gateway.simulator.tape import synthetic
from exchange_gateway.simulator.venue import Venue
from exchange_gateway.stream import OPEN
from exchange_gateway.venue import VenueAway
from infra.clock import SystemClock
from infra.contracts import Quote, Tick, Trade, decode
from infra.process import background
from tests.flow.venue_running import DEADLINE_S, KEY, free_port, running

ROWS, KEPT, SYMBOLS = 6000, 1000, 5


@dataclass
class Day:
    """A venue after its one session, and every tick that its feed sent, by symbol."""

    market: MarketData
    session: int
    ticks: dict[str, list[bytes]]

    @property
    def symbol(self) -> str:
        """One of which more ticks came than one request may name."""
        return max(self.ticks, key=lambda symbol: len(self.ticks[symbol]))


async def played(source: FeedSource, market: MarketData) -> Day:
    day = Day(market, 0, defaultdict(list))
    async with asyncio.timeout(DEADLINE_S):
        async for frame in source.frames(None, None):
            content = frame_of(frame) if frame != OPEN else None
            if isinstance(content, Ticks):
                day.session = content.session
                for raw in content.ticks:
                    day.ticks[decode(TickId, bytes(raw)).s].append(bytes(raw))
            elif isinstance(content, Status) and b'"close"' in bytes(content.status):
                break
    assert sum(map(len, day.ticks.values())) == ROWS
    return day


class MarketDataContract:
    async def test_the_newest_trade_and_quote_are_those_of_the_feed(self, day: Day) -> None:
        for symbol, sent in day.ticks.items():
            found = await day.market.newest(symbol)
            assert found
            assert (found.symbol, found.session) == (symbol, day.session)
            told: list[Tick] = [decode(Tick, value) for value in sent]
            last = {max(tick.q for tick in told if isinstance(tick, kind)) for kind in (Trade, Quote)}
            assert [bytes(raw) for raw in found.ticks] == [sent[q - 1] for q in sorted(last)]

    async def test_an_unlisted_symbol_is_none(self, day: Day) -> None:
        assert await day.market.newest("NONE") is None
        assert await day.market.newest("a/b?c") is None

    async def test_ticks_are_sent_again_in_the_bytes_of_the_feed(self, day: Day) -> None:
        sent = day.ticks[day.symbol]
        found = await day.market.resend(day.session, day.symbol, len(sent) - 99, len(sent))
        assert [bytes(raw) for raw in found.ticks] == sent[-100:]
        assert found.missing == []

    async def test_what_is_no_longer_kept_is_missing(self, day: Day) -> None:
        sent = day.ticks[day.symbol]
        first = len(sent) - RESEND_MAX + 1
        found = await day.market.resend(day.session, day.symbol, first, len(sent))
        kept: list[int] = [decode(TickId, bytes(raw)).q for raw in found.ticks]
        assert 0 < len(kept) < RESEND_MAX
        assert [bytes(raw) for raw in found.ticks] == sent[-len(kept) :]
        assert found.missing == [(first, kept[0] - 1)]

    async def test_what_never_was_is_missing(self, day: Day) -> None:
        count = len(day.ticks[day.symbol])
        for session, symbol, first, last in (
            (day.session, day.symbol, count + 1, count + 9),
            (day.session - 100, day.symbol, 1, 2),
            (day.session, "NONE", 1, 2),
        ):
            found = await day.market.resend(session, symbol, first, last)
            assert (found.ticks, found.missing) == ([], [(first, last)])

    @pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, RESEND_MAX + 1)])
    async def test_what_cannot_be_asked_is_no_answer(self, day: Day, first: int, last: int) -> None:
        with pytest.raises(VenueAway):
            await day.market.resend(day.session, day.symbol, first, last)


class TestInProcess(MarketDataContract):
    @pytest.fixture
    async def day(self) -> AsyncIterator[Day]:
        clock = SystemClock()
        desk = Desk(Venue(), DropCopy(), None, lambda _: None, clock)
        feed = Feed(Ring(KEPT), KEPT // 2)
        pace = Pace(speed=None, loops=1, frame_ticks_max=64, tape_clock=True)
        replay = Replay(synthetic(SYMBOLS, ROWS, seed=1), desk, feed, pace, clock)
        replay.prepare()
        market = InProcessMarketData(feed, symbol_names(SYMBOLS))
        async with background(replay.run):
            yield await played(market, market)

    async def test_before_the_first_session_nothing_can_be_said(self) -> None:
        with pytest.raises(VenueAway):
            await InProcessMarketData(Feed(Ring(9), 9), ["AAA"]).newest("AAA")


class TestOverHttp(MarketDataContract):
    @pytest.fixture
    async def day(self, tmp_path: Path) -> AsyncIterator[Day]:
        told = {"tape_speed": "max", "tape_loops": "1", "tape_synthetic_rows": str(ROWS), "feed_ring_ticks": str(KEPT)}
        async with (
            running(tmp_path, tape_clock="tape", **told) as venue,
            httpx.AsyncHTTPTransport(trust_env=False) as transport,
        ):
            url, key = f"http://127.0.0.1:{venue.port}", KEY["authorization"].removeprefix("Bearer ")
            yield await played(WsFeedSource(url, key), HttpMarketData(transport, url, key, 5.0))

    async def test_a_venue_that_is_not_there_is_away(self) -> None:
        async with httpx.AsyncHTTPTransport(trust_env=False) as transport:
            nobody = HttpMarketData(transport, f"http://127.0.0.1:{free_port()}", "key", 1.0)
            with pytest.raises(VenueAway):
                await nobody.newest("AAA")
            with pytest.raises(VenueAway):
                await nobody.resend(1, "AAA", 1, 2)

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(200, content=b"<html>"),
            httpx.Response(404, content=b"<html>"),
            httpx.Response(401, json={"error": {"code": "unauthorized", "text": ""}}),
            httpx.Response(503, json={"error": {"code": "unavailable", "text": ""}}),
        ],
    )
    async def test_an_answer_that_says_nothing_of_the_symbol_is_away(self, answer: httpx.Response) -> None:
        async def handle(_: httpx.Request) -> httpx.Response:
            return answer

        venue = HttpMarketData(httpx.MockTransport(handle), "http://venue", "key", 1.0)
        with pytest.raises(VenueAway):
            await venue.newest("AAA")
        with pytest.raises(VenueAway):
            await venue.resend(1, "AAA", 1, 2)


def test_both_ends_know_the_same_limit() -> None:
    assert market_answers.RESEND_MAX == RESEND_MAX
