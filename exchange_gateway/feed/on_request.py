"""Ticks that somebody asks for: fetched from the venue and put onto `prices` like those of the feed, then answered.

They carry the venue's own sequence numbers, so whoever stores ticks tells a repeated one from a missing one; nothing is
written to a store directly. Bounded: so many requests at the venue at one time, so many that wait, one per question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from exchange_gateway.feed.ticks_out import send_tick
from exchange_gateway.venue import NewestTicks, ResentTicks, VenueAway
from infra.bus import BusError, Producer
from infra.telemetry import TICKS_RESENT

T = TypeVar("T")

QUESTIONS_MAX = 200  # at the venue or waiting to be
RESEND_MAX = 1000  # sequence numbers in one request (docs/venue-api.md)


class MarketData(Protocol):
    """The venue's market data on request. Both raise VenueAway."""

    async def newest(self, symbol: str) -> NewestTicks | None:
        """None when the venue does not list the symbol."""
        ...

    async def resend(self, session: int, symbol: str, first: int, last: int) -> ResentTicks:
        """The ticks with these sequence numbers, at most `RESEND_MAX`."""
        ...


class Unanswered(Exception):
    """It cannot be said now. Asking again in a while can help. `code` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Resend(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Which ticks of a symbol's session are missing."""

    symbol: str
    session: int
    first: int
    last: int


class Resent(NamedTuple):
    """How many ticks are on the bus again, and the ranges that the venue does not have."""

    published: int
    missing: list[tuple[int, int]]


class OnRequest:
    """`answer_s_max` bounds a question from its beginning to the bus's acknowledgement."""

    def __init__(self, market: MarketData, producer: Producer, in_flight_max: int, answer_s_max: float) -> None:
        self._market = market
        self._producer = producer
        self._slots = asyncio.Semaphore(in_flight_max)
        self._answer_s_max = answer_s_max
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}

    async def newest(self, symbol: str) -> NewestTicks | None:
        """The venue's newest trade and quote; None for an unknown symbol. Raises Unanswered."""

        async def work() -> NewestTicks | None:
            found = await self._market.newest(symbol)
            if found is not None:
                await self._publish(found.ticks, "quote")
            return found

        return await self._once(symbol, work)

    async def resend(self, asked: Resend) -> Resent:
        """Put ticks that are missing onto the bus. Raises Unanswered."""

        async def work() -> Resent:
            found = await self._market.resend(asked.session, asked.symbol, asked.first, asked.last)
            return Resent(await self._publish(found.ticks, "gap"), found.missing)

        return await self._once(asked, work)

    async def _once(self, question: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Ask, or wait for the answer to the same question of somebody else; who goes away stops neither."""
        asked = self._asked.get(question)
        if asked is None:
            if len(self._asked) >= QUESTIONS_MAX:
                raise Unanswered("busy", f"{QUESTIONS_MAX} questions wait for the venue already.")
            asked = self._asked[question] = asyncio.ensure_future(self._bounded(work))
            asked.add_done_callback(lambda done: self._forget(question, done))
        answer: T = await asyncio.shield(asked)
        return answer

    async def _bounded(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._answer_s_max), self._slots:
                return await work()
        except TimeoutError as error:
            raise Unanswered("venue_unavailable", f"No answer within {self._answer_s_max} s.") from error
        except VenueAway as error:
            raise Unanswered("venue_unavailable", f"The venue does not answer: {error}") from error
        except BusError as error:
            raise Unanswered("bus_unavailable", f"The ticks cannot be published: {error}") from error

    def _forget(self, question: Hashable, done: asyncio.Future[Any]) -> None:
        del self._asked[question]
        if not done.cancelled():
            done.exception()  # seen, also when everybody who asked has gone

    async def _publish(self, ticks: Sequence[msgspec.Raw], why: str) -> int:
        records = [record for tick in ticks if (record := send_tick(self._producer, tick)) is not None]
        await asyncio.gather(*records)
        TICKS_RESENT.labels(why).inc(len(records))
        return len(records)
