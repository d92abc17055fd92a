"""Asks the venue for what a quote may be missing: once, whoever asks at the same time, and seldom.

The answer does not come back here. The gateway publishes what the venue says, under the venue's own numbers, and every
hub takes it like any other tick; so a lost tick is mended for everybody, and nothing is stored twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple, Protocol

import structlog

from infra.clock import Clock
from infra.rate import LocalRate
from infra.telemetry import QUOTE_FETCHES
from price_service.live.quotes import QuoteTable

log = structlog.get_logger(__name__)

IN_FLIGHT_MAX = 8
SYMBOLS_REMEMBERED_MAX = 16_384
# Symbols that nobody has listed may be anything that a client can think of.
UNLISTED_PER_S, UNLISTED_BURST = 5.0, 10
LOOK_EVERY_S = 0.002


class VenueAway(Exception):
    """The venue, or the gateway before it, does not answer now."""


class Published(NamedTuple):
    """A tick that the gateway has published for us."""

    session: int
    q: int


class VenueQuotes(Protocol):
    async def publish(self, symbol: str) -> list[Published]:
        """Have the venue's newest trade and quote of a symbol published; nothing for a symbol that it does not trade.
        Raises VenueAway."""
        ...


class Nobody:
    """Where there is no venue to ask."""

    async def publish(self, symbol: str) -> list[Published]:
        return []


class _Flight(NamedTuple):
    task: asyncio.Task[None]
    ends_s: float


class Fetches:
    """`every_ms`: least time between two questions about one symbol. `wait_ms`: how long a reader waits at most, from
    the question on; the question itself may take longer. While no session is open nobody is asked."""

    def __init__(self, venue: VenueQuotes, table: QuoteTable, clock: Clock, every_ms: int, wait_ms: int) -> None:
        self._venue = venue
        self._table = table
        self._clock = clock
        self._every_s = every_ms / 1000
        self._wait_s = wait_ms / 1000
        self._flights: dict[str, _Flight] = {}
        self._asked_s: dict[str, float] = {}
        self._unlisted = LocalRate(UNLISTED_PER_S, UNLISTED_BURST)

    def worth_waiting(self, symbol: str) -> bool:
        """Is there an answer on its way that a reader should wait for, or may the venue be asked now?"""
        if not self._table.is_open:
            return False
        now_s = self._clock.monotonic_s()
        if (flight := self._flights.get(symbol)) is not None:
            return now_s < flight.ends_s
        asked_s = self._asked_s.get(symbol)
        return (asked_s is None or now_s >= asked_s + self._every_s) and len(self._flights) < IN_FLIGHT_MAX

    async def freshen(self, symbols: Collection[str]) -> None:
        """Wait until what the venue has of these symbols is in the table, or until waiting is not worth it."""
        waits = [self._flight(symbol) for symbol in symbols if self.worth_waiting(symbol)]
        tasks = [flight.task for flight in waits if flight is not None]
        if tasks:
            # A reader that leaves takes nobody's answer with it.
            await asyncio.wait(tasks, timeout=self._wait_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Nothing runs past the end of this."""
        await stop.wait()
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _flight(self, symbol: str) -> _Flight | None:
        flight, now_s = self._flights.get(symbol), self._clock.monotonic_s()
        if flight is not None:
            return flight
        if len(self._flights) >= IN_FLIGHT_MAX:
            return None
        if symbol not in self._table.quotes and self._unlisted.take("", now_s):
            return None
        self._remember(symbol, now_s)
        task = asyncio.create_task(self._ask(symbol, now_s + self._wait_s))
        flight = self._flights[symbol] = _Flight(task, now_s + self._wait_s)
        return flight

    async def _ask(self, symbol: str, ends_s: float) -> None:
        try:
            published = await self._venue.publish(symbol)
            QUOTE_FETCHES.labels("published" if published else "unknown").inc()
            while any(not self._table.has(symbol, *tick) for tick in published):
                if self._clock.monotonic_s() >= ends_s:
                    return
                await asyncio.sleep(LOOK_EVERY_S)
            if published:
                self._table.quote(symbol)  # the next flush brings the same to the streams
        except VenueAway as error:
            QUOTE_FETCHES.labels("away").inc()
            log.info("quote_not_fetched", symbol=symbol, error=str(error))
        finally:
            del self._flights[symbol]

    def _remember(self, symbol: str, now_s: float) -> None:
        if len(self._asked_s) >= SYMBOLS_REMEMBERED_MAX:
            self._asked_s = {s: at for s, at in self._asked_s.items() if at + self._every_s > now_s}
        if len(self._asked_s) < SYMBOLS_REMEMBERED_MAX:
            self._asked_s[symbol] = now_s
