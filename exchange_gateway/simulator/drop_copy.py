"""The drop copy: every report of the venue, numbered without holes, re-readable from any number that is still kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from exchange_gateway.simulator.messages import Numbered


class AheadOfVenue(Exception):
    """A reader asks for what follows a report that this venue never made: its memory was wiped."""


class DropCopy:
    """Reports `first_n` to `last_n` as JSON, and a wake-up for readers."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._first_n = 1
        self._changed = asyncio.Event()

    @property
    def first_n(self) -> int:
        return self._first_n

    @property
    def last_n(self) -> int:
        return self._first_n + len(self._bodies) - 1

    def begin_after(self, n: int) -> None:
        """Nothing up to `n` is kept. Only before the first report is added."""
        assert not self._bodies
        self._first_n = n + 1

    def add(self, reports: Iterable[Numbered]) -> None:
        for numbered in reports:
            assert numbered.n == self.last_n + 1, "the drop copy has no holes"
            self._bodies.append(numbered.body)
        self.wake()

    def forget(self, upto_n: int) -> None:
        keep_from = min(max(upto_n + 1, self._first_n), self.last_n + 1)
        del self._bodies[: keep_from - self._first_n]
        self._first_n = keep_from

    def check(self, after: int) -> None:
        if after > self.last_n:
            raise AheadOfVenue(f"the last report of this venue is {self.last_n}, not {after}")

    def read(self, after: int, limit: int) -> tuple[int, list[str]]:
        """Frames that follow report `after`, and the number to go on from. Empty when there is nothing new."""
        frames = []
        if after + 1 < self._first_n:
            frames.append(f'{{"gap":{{"from":{after + 1},"to":{self._first_n - 1}}}}}')
            after = self._first_n - 1
        start = after + 1 - self._first_n
        for body in self._bodies[start : start + limit]:
            after += 1
            frames.append(f'{{"n":{after},"report":{body.decode()}}}')
        return after, frames

    def wake(self) -> None:
        """Let every reader look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait for a report, or to be woken."""
        await self._changed.wait()

    async def next(self, after: int, limit: int) -> tuple[int, list[str]]:
        """As `read`, but waits until there is something. Nothing may run between looking and waiting."""
        while not (found := self.read(after, limit))[1]:
            await self.changed()
        return found
