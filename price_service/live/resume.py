"""What a client of every tick missed: from the store, without a gap to what comes live.

The client is in the hub's taps before the store is read, so its queue has every tick that the hub took after `applied`
was copied. What the hub had taken until then has to come from the store, which is up to a second behind; it is asked
again for a while, and what it still does not give is named in a `reset`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import structlog

from infra.clock import Clock
from price_service.domain.seen import Seen
from price_service.live.every import Progress, made, reset
from price_service.live.places import Hole, holes
from price_service.live.ticks_since import TicksSince
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)

WAIT_S = 5.0
FIRST_PAUSE_S = 0.1
SESSIONS_MAX = 8
READERS_MAX = 2


class Resume:
    """`ticks_max`: of one symbol's session at most so many, the newest, are read again. Few clients read at a time, so
    that a thousand who return at once do not keep the store from others."""

    def __init__(self, store: TicksSince, clock: Clock, ticks_max: int, wait_s: float = WAIT_S) -> None:
        self._store = store
        self._clock = clock
        self._ticks_max = ticks_max
        self._wait_s = wait_s
        self._turn = asyncio.Semaphore(READERS_MAX)

    async def after(self, progress: Progress, symbol: str, session: int, applied: Seen) -> AsyncIterator[bytes]:
        """Events up to what the hub had taken of this symbol: `applied`, of its `session`."""
        until_s, pause_s = self._clock.monotonic_s() + self._wait_s, FIRST_PAUSE_S
        while symbol in progress.symbols:
            try:
                async for chunk in self._read(progress, symbol):
                    yield chunk
            except StoreAway as error:
                log.warning("stream_cannot_resume_from_the_store", symbol=symbol, error=str(error))
            if not _lacking(progress, symbol, session, applied) or self._clock.monotonic_s() + pause_s > until_s:
                break
            await asyncio.sleep(pause_s)
            pause_s *= 2
        yield b"".join(_given_up(progress, symbol, session, applied))

    async def _read(self, progress: Progress, symbol: str) -> AsyncIterator[bytes]:
        """All that is stored after where the client is."""
        start = progress.place(symbol)
        async with self._turn:
            sessions = await self._store.sessions(symbol, start.session, SESSIONS_MAX)
        if sessions and sessions[0].session > start.session and start.q:
            yield reset(symbol, start.session, start.q + 1, None, progress.id)
        for stored in sessions:
            if stored.session < progress.place(symbol).session:
                continue
            if stored.session > progress.place(symbol).session:
                yield b"".join(progress.begin(symbol, stored.session))
            too_old = stored.newest_q - self._ticks_max
            if too_old > progress.place(symbol).q:
                yield b"".join(progress.missing(symbol, too_old))
            async for chunk in self._session(progress, symbol, stored.session):
                yield chunk
            if stored is not sessions[-1]:
                yield b"".join(progress.missing(symbol, stored.newest_q))

    async def _session(self, progress: Progress, symbol: str, session: int) -> AsyncIterator[bytes]:
        pages = self._store.pages(symbol, session, progress.place(symbol).q)
        while True:
            async with self._turn:
                page = await anext(pages, None)
            if page is None:
                return
            yield b"".join(
                event for received in page for event in progress.tick(made(received.tick, received.received_ms))
            )


def _lacking(progress: Progress, symbol: str, session: int, applied: Seen) -> list[Hole]:
    """What the hub had taken and the client has not got."""
    if (place := progress.place(symbol)).session > session:
        return []
    seen = progress.seen(symbol) if place.session == session else Seen()
    runs = [(1, applied.contiguous), *applied.above]
    return [
        Hole(max(hole.first, first), min(hole.last, last))
        for hole in holes(seen, applied.newest)
        for first, last in runs
        if hole.first <= last and first <= hole.last
    ]


def _given_up(progress: Progress, symbol: str, session: int, applied: Seen) -> Iterator[bytes]:
    lacking = _lacking(progress, symbol, session, applied)
    if lacking and progress.place(symbol).session < session:
        yield from progress.begin(symbol, session)
    for hole in lacking:
        yield from progress.missing(symbol, hole.last, hole.first)
