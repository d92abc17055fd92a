"""When the proof of who asks ends, the streams that were opened with it end too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from infra.clock import NS_PER_S, Clock

LOOK_S = 1.0
End = Callable[[], None]


class Expiries:
    """Everything that ends at a moment of wall time, whole Unix seconds. One timer serves all; while nothing waits,
    there is none. It looks once a second, so a clock that is set is noticed. Used from one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[int, set[End]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def at(self, expires_s: int | None, end: End) -> None:
        """Call `end` once at `expires_s`, within LOOK_S after it; never for None. The same moment and callable again
        change nothing."""
        if expires_s is None:
            return
        if expires_s not in self._due:
            self._due[expires_s] = set()
            heappush(self._order, expires_s)
        self._due[expires_s].add(end)
        if self._timer is None:
            self._arm()

    def forget(self, expires_s: int | None, end: End) -> None:
        """It has ended by itself."""
        if expires_s is not None and (due := self._due.get(expires_s)) is not None:
            due.discard(end)

    def look(self) -> None:
        """End what is due."""
        now_s = self._clock.now_ns() // NS_PER_S
        while self._order and (self._order[0] <= now_s or not self._due[self._order[0]]):
            for end in self._due.pop(heappop(self._order)):
                end()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._elapsed)

    def _elapsed(self) -> None:
        self._timer = None
        try:
            self.look()
        finally:
            if self._order and self._timer is None:
                self._arm()
