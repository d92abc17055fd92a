"""Plays the tape: session after session, tick after tick, into the books and onto the feed."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from exchange_gateway.simulator.columns import Rows, Tape, rows_of
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.messages import Numbered
from infra.clock import NS_PER_S, Clock, wait
from infra.contracts import Instrument, Quote, Tick, Trade

log = structlog.get_logger(__name__)

TICK_MICROS = 10_000
LOT = 1
# Form-T, outside hours, odd lot: prints that do not make a session's last price.
NOT_LAST = 0x2000 | 0x4000 | 0x8000_0000


@dataclass(frozen=True, slots=True)
class Pace:
    """How the tape is played. `speed` is tape seconds per second, None as fast as the feed's clients take it."""

    speed: float | None = 1.0
    frame_ticks_max: int = 500
    flush_s: float = 0.005
    loops: int = 0
    session_pause_s: float = 1.0
    waits_for_client: bool = True
    tape_clock: bool = False


def next_session(last: int, now_ns: int) -> int:
    """The number of a session that is to open now: Unix seconds, and never one that was given before.

    Without a remembered one (`last` 0) it is the *next* second, and the caller waits for it: an earlier process may
    have opened a session within this one.
    """
    now_s = now_ns // NS_PER_S
    return max(now_s, last + 1) if last else now_s + 1


class Replay:
    """Drives the venue's sessions. `prepare` comes before any order is taken."""

    def __init__(self, tape: Tape, desk: Desk, feed: Feed, pace: Pace, clock: Clock) -> None:
        self._tape = tape
        self._desk = desk
        self._feed = feed
        self._pace = pace
        self._clock = clock
        self._closes = {symbol: listing.previous_close_micros for symbol, listing in tape.listings.items()}
        self._session = 0
        self._is_named = False  # the session is named and not opened yet

    def prepare(self) -> None:
        """End what a crash left open, and name the first session: refusals before its open carry its number."""
        now_ns = self._clock.now_ns()
        self._desk.end_broken_session(now_ns)
        self._assign(now_ns)

    def begin_anew(self) -> None:
        """The venue loses its memory: the session ends without a word to its orders, and the next one is named."""
        now_ns = self._clock.now_ns()
        if self.is_open():
            self._feed.close(now_ns)
        self._desk.forget()
        self._assign(now_ns)

    def is_open(self) -> bool:
        return self._desk.venue.is_open

    async def run(self, stop: asyncio.Event) -> None:
        """Play the passes; afterwards the market stays closed until `stop`."""
        log.info("tape", label=self._tape.label, symbols=len(self._tape.listings), speed=self._pace.speed or "max")
        passes = 0
        while not stop.is_set() and (not self._pace.loops or passes < self._pace.loops):
            if not self._is_named:
                await wait(stop, self._pace.session_pause_s)
                self._assign(self._clock.now_ns())
            await self._until_session(stop)
            if not stop.is_set():
                passes += await self._pass(stop)
        await stop.wait()

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _assign(self, now_ns: int) -> None:
        last = self._desk.venue.session
        if self._pace.tape_clock:
            self._session = max(self._first_ns() // NS_PER_S, last + 1)
        else:
            self._session = next_session(last, now_ns)
        self._desk.assign_session(self._session, now_ns)
        self._is_named = True

    def _first_ns(self) -> int:
        return int(next(self._tape.play()).ts_event[0])

    async def _until_session(self, stop: asyncio.Event) -> None:
        """On the wall clock no session starts before its number's second."""
        while not self._pace.tape_clock and not stop.is_set():
            early_ns = self._session * NS_PER_S - self._clock.now_ns()
            if early_ns <= 0:
                return
            await wait(stop, early_ns / NS_PER_S)

    async def _pass(self, stop: asyncio.Event) -> bool:
        """Whether the session was played to its end."""
        at_ns = self._first_ns() if self._pace.tape_clock else self._clock.now_ns()
        listed = {
            symbol: Instrument(symbol, listing.name, TICK_MICROS, LOT, self._session, self._closes[symbol])
            for symbol, listing in self._tape.listings.items()
        }
        self._is_named = False
        self._desk.open(listed, at_ns)
        self._feed.open(self._session, list(listed.values()), at_ns)
        log.info("session_open", session=self._session)
        last_ns = await self._play(stop)
        if stop.is_set() or not self.is_open():
            return False  # as after a crash: what was open is ended at the next start
        at_ns = last_ns if self._pace.tape_clock else self._clock.now_ns()
        self._feed.close(at_ns)
        self._desk.close(at_ns)
        log.info("session_close", session=self._session)
        return True

    # -- ticks ---------------------------------------------------------------------------------------------------------

    async def _play(self, stop: asyncio.Event) -> int:
        """One pass. Returns the recorded time of the last tick."""
        origin: tuple[int, float] | None = None
        last_ns = 0
        for columns in self._tape.play():
            rows = rows_of(columns)
            if origin is None:
                await self._room(stop)
                origin = rows.ts_ns[0], self._clock.monotonic_s()
            done, count = 0, len(rows.ts_ns)
            while done < count and not stop.is_set() and self.is_open():
                upto = await self._due(rows, done, origin, stop)
                if upto > done and self.is_open():
                    self._emit(rows, done, upto)
                done = upto
            if stop.is_set() or not self.is_open():
                break
            last_ns = rows.ts_ns[-1]
        return last_ns

    async def _due(self, rows: Rows, start: int, origin: tuple[int, float], stop: asyncio.Event) -> int:
        """Wait a moment for the next ticks; the end of those that may go out now, at most a frame."""
        end = min(len(rows.ts_ns), start + self._pace.frame_ticks_max)
        if self._pace.speed is None:
            await asyncio.sleep(0)
            await self._room(stop)
            return end
        tape_ns, started_s = origin
        played_s = self._clock.monotonic_s() - started_s
        upto = bisect_right(rows.ts_ns, tape_ns + int(played_s * self._pace.speed * NS_PER_S), start, end)
        if upto == end:
            await asyncio.sleep(0)  # behind, or a full frame: go on at once, but let others in
        elif upto == start:
            due_s = (rows.ts_ns[start] - tape_ns) / NS_PER_S / self._pace.speed
            await wait(stop, max(due_s - played_s, self._pace.flush_s))
        else:
            await asyncio.sleep(self._pace.flush_s)
        return upto

    async def _room(self, stop: asyncio.Event) -> None:
        """At speed max: wait for a client to be there, and for the slowest one to follow."""
        if self._pace.speed is not None:
            return
        while not stop.is_set():
            self._feed.moved.clear()
            if self._feed.has_room() and (self._feed.readers or not self._pace.waits_for_client):
                return
            await _first(self._feed.moved.wait(), stop.wait())

    def _emit(self, rows: Rows, start: int, end: int) -> None:
        """Put ticks into the books and onto the feed; they share one event time, the moment they are sent."""
        venue, session, numbers, closes = self._desk.venue, self._session, self._feed.symbols(), self._closes
        now_ns, tape_clock = self._clock.now_ns(), self._pace.tape_clock
        ticks: list[Tick] = []
        made: list[Numbered] = []
        for i in range(start, end):
            symbol = rows.symbol[i]
            q = numbers[symbol] = numbers.get(symbol, 0) + 1
            at_ns = rows.ts_ns[i] if tape_clock else now_ns
            if rows.is_trade[i]:
                price, size, cond = rows.price[i], rows.size[i], rows.cond[i]
                ticks.append(Trade(symbol, session, q, at_ns, price, size, cond, rows.exch[i]))
                if not cond & NOT_LAST:
                    closes[symbol] = price
                made += venue.trade(symbol, price, size, at_ns)
            else:
                bid, bid_size, ask, ask_size = rows.bid[i], rows.bid_size[i], rows.ask[i], rows.ask_size[i]
                ticks.append(Quote(symbol, session, q, at_ns, bid, bid_size, ask, ask_size))
                made += venue.quote(symbol, bid, bid_size, ask, ask_size, at_ns)
        if made:
            self._desk.market(made, now_ns)
        self._feed.publish(ticks)


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of these does."""
    tasks = [asyncio.ensure_future(w) for w in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
