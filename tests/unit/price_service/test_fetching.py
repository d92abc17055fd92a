"""Asking the venue for a stale or missing quote: once, seldom, and never for longer than a reader should wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from infra.clock import ManualClock, SystemClock
from infra.contracts import MarketStatus
from price_service.live.fetching import IN_FLIGHT_MAX, UNLISTED_BURST, Fetches, Published, VenueAway
from price_service.live.quotes import QuoteTable
from price_service.live.venue_http import HttpVenueQuotes
from tests.unit.price_service.made import RECEIVED_MS, SESSION, trade


class Venue:
    """Answers when told to; what it publishes is applied by `table` at once."""

    def __init__(self, table: QuoteTable) -> None:
        self.table = table
        self.asked: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.is_away = False
        self.knows = True
        self.applies = True

    async def publish(self, symbol: str) -> list[Published]:
        self.asked.append(symbol)
        await self.answering.wait()
        if self.is_away:
            raise VenueAway("down")
        if not self.knows:
            return []
        if self.applies:
            self.table.tick(trade(99, symbol=symbol), 0, RECEIVED_MS)
        return [Published(SESSION, 99)]


class House:
    def __init__(self, wait_ms: int = 50) -> None:
        self.clock = ManualClock()
        self.table = QuoteTable(5_000)
        self.venue = Venue(self.table)
        self.fetches = Fetches(self.venue, self.table, self.clock, every_ms=5_000, wait_ms=wait_ms)

    def opens(self) -> House:
        self.table.status(MarketStatus("open", SESSION, 0))
        for symbol in ("AAPL", "SPY"):
            self.table.tick(trade(1, symbol=symbol), 0, RECEIVED_MS)
            self.table.quote(symbol)
        return self


@contextlib.asynccontextmanager
async def ended(fetches: Fetches) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(fetches.run(stop))
    yield
    stop.set()
    await running


async def test_what_the_venue_published_is_in_the_answer() -> None:
    at = House().opens()
    before = at.table.quotes["AAPL"]
    await at.fetches.freshen(["AAPL"])
    assert at.table.quotes["AAPL"] != before
    assert at.venue.asked == ["AAPL"]


async def test_a_thousand_readers_are_one_question() -> None:
    at = House(wait_ms=5_000).opens()
    at.venue.answering.clear()
    async with ended(at.fetches):
        readers = [asyncio.create_task(at.fetches.freshen(["AAPL"])) for _ in range(1_000)]
        await asyncio.sleep(0)
        assert at.fetches.worth_waiting("AAPL")
        readers[0].cancel()
        at.venue.answering.set()
        done = await asyncio.gather(*readers, return_exceptions=True)
        assert [type(result) for result in done] == [asyncio.CancelledError] + [type(None)] * 999
    assert at.venue.asked == ["AAPL"]


async def test_the_same_symbol_is_asked_for_again_only_after_a_while() -> None:
    at = House().opens()
    for seconds, questions in ((0, 1), (4.9, 1), (0.2, 2)):
        at.clock.advance(seconds)
        await at.fetches.freshen(["AAPL"])
        assert len(at.venue.asked) == questions
    await at.fetches.freshen(["SPY"])
    assert at.venue.asked[-1] == "SPY"


@pytest.mark.parametrize("trouble", ["away", "unknown"])
async def test_trouble_is_remembered_as_an_answer_is(trouble: str) -> None:
    at = House().opens()
    at.venue.is_away, at.venue.knows = trouble == "away", False
    before = at.table.quotes["AAPL"]
    for _ in range(10):
        await at.fetches.freshen(["AAPL"])
    assert at.venue.asked == ["AAPL"]
    assert at.table.quotes["AAPL"] is before


async def test_nobody_is_asked_while_no_session_is_open() -> None:
    at = House()
    assert not at.fetches.worth_waiting("AAPL")
    await at.fetches.freshen(["AAPL"])
    at.opens().table.status(MarketStatus("close", SESSION, 0))
    await at.fetches.freshen(["AAPL"])
    assert at.venue.asked == []


async def test_a_reader_waits_no_longer_than_it_should_for_a_silent_venue() -> None:
    at = House(wait_ms=20).opens()
    at.venue.answering.clear()
    async with ended(at.fetches):
        async with asyncio.timeout(5):
            await at.fetches.freshen(["AAPL"])
        at.clock.advance(0.021)
        # The question is still on its way; whoever comes now has nothing to wait for.
        assert not at.fetches.worth_waiting("AAPL")
        await at.fetches.freshen(["AAPL"])
        assert at.venue.asked == ["AAPL"]


async def test_a_reader_waits_no_longer_than_it_should_for_the_hub() -> None:
    table = QuoteTable(5_000)
    table.status(MarketStatus("open", SESSION, 0))
    venue = Venue(table)
    venue.applies = False
    fetches = Fetches(venue, table, SystemClock(), every_ms=5_000, wait_ms=20)
    async with asyncio.timeout(5), ended(fetches):
        await fetches.freshen(["AAPL"])
    assert "AAPL" not in table.quotes


async def test_few_questions_are_on_their_way_at_once() -> None:
    at = House(wait_ms=20).opens()
    at.venue.answering.clear()
    symbols = [f"S{number}" for number in range(100)]
    for symbol in symbols:
        at.table.tick(trade(1, symbol=symbol), 0, RECEIVED_MS)
        at.table.quote(symbol)
    async with ended(at.fetches):
        await at.fetches.freshen(symbols)
        assert len(at.venue.asked) == IN_FLIGHT_MAX
        assert not at.fetches.worth_waiting(symbols[-1])


async def test_symbols_that_nobody_has_listed_are_asked_for_seldom() -> None:
    at = House().opens()
    at.venue.knows = False
    for number in range(100):
        await at.fetches.freshen([f"X{number}"])
    assert len(at.venue.asked) == UNLISTED_BURST
    await at.fetches.freshen(["AAPL"])
    assert at.venue.asked[-1] == "AAPL"


class TestOverHttp:
    """The gateway's answers, and everything that is none."""

    async def publish(self, answer: httpx.Response | Exception) -> list[Published]:
        def handle(request: httpx.Request) -> httpx.Response:
            assert (request.method, request.url.path) == ("GET", "/quotes/BRK.A")
            if isinstance(answer, Exception):
                raise answer
            return answer

        venue = HttpVenueQuotes("http://gateway.test", httpx.MockTransport(handle))
        try:
            return await venue.publish("BRK.A")
        finally:
            await venue.close()

    async def test_ticks(self) -> None:
        ticks = [{"k": "T", "s": "BRK.A", "d": 7, "q": 3, "p": 1}, {"k": "Q", "s": "BRK.A", "d": 7, "q": 5}]
        body = {"symbol": "BRK.A", "session": 7, "ticks": ticks}
        assert await self.publish(httpx.Response(200, json=body)) == [(7, 3), (7, 5)]

    async def test_a_symbol_that_it_does_not_know(self) -> None:
        assert await self.publish(httpx.Response(404, json={"error": {"code": "unknown_symbol"}})) == []

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(503),
            httpx.Response(200, content=b"{"),
            httpx.Response(200, json={"ticks": [{"d": "x"}]}),
            httpx.Response(302, headers={"location": "http://elsewhere.test"}),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("slow"),
        ],
        ids=["503", "no JSON", "other JSON", "moved", "refused", "slow"],
    )
    async def test_everything_else_is_away(self, answer: httpx.Response | Exception) -> None:
        with pytest.raises(VenueAway):
            await self.publish(answer)
