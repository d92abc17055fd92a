"""Ticks that were stored, for a stream that goes on where it was interrupted: the port, and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple, Protocol

from price_service.store.memory import MemoryPrices
from price_service.store.records import Received

PAGE = 1_000


class Stored(NamedTuple):
    """Of one session of a symbol: the newest number that is stored. Lower ones may be missing."""

    session: int
    newest_q: int


class TicksSince(Protocol):
    async def sessions(self, symbol: str, since: int, sessions_max: int) -> list[Stored]:
        """The newest sessions from `since` on that have ticks of this symbol, in their order. Raises StoreAway."""
        ...

    def pages(self, symbol: str, session: int, after_q: int) -> AsyncIterator[list[Received]]:
        """The ticks above `after_q`, about in the order of their time, each once. What was stored while this reads may
        be missing. Raises StoreAway."""
        ...


class MemoryTicksSince:
    """Over the ticks that the memory store still has."""

    def __init__(self, store: MemoryPrices) -> None:
        self._store = store

    async def sessions(self, symbol: str, since: int, sessions_max: int) -> list[Stored]:
        newest: dict[int, int] = {}
        for tick, *_ in self._kept():
            if tick.s == symbol and tick.d >= since:
                newest[tick.d] = max(newest.get(tick.d, 0), tick.q)
        return [Stored(session, newest[session]) for session in sorted(newest)[-sessions_max:]]

    async def pages(self, symbol: str, session: int, after_q: int) -> AsyncIterator[list[Received]]:
        found = [r for r in self._kept() if r.tick.s == symbol and r.tick.d == session and r.tick.q > after_q]
        found.sort(key=lambda received: (received.tick.t, received.tick.q))
        for start in range(0, len(found), PAGE):
            yield found[start : start + PAGE]

    def _kept(self) -> Iterable[Received]:
        return tuple(self._store.ticks)
