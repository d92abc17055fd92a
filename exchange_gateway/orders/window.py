"""How far a partition of `orders` is done: the offsets in hand, and the contiguous prefix that may be committed. Pure.

At most `size` offsets past the committed one may have been sent. So after a crash exactly the first `size` that come
again are the ones to ask the venue about.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Window(Generic[T]):
    """One partition from its assignment on: `assigned_ms` (Unix milliseconds) is when, `first` the first offset that
    came. A window that is replaced at the next assignment is simply forgotten, and with it what comes again."""

    def __init__(self, size: int, assigned_ms: int) -> None:
        self.held = 0
        self._size = size
        self._assigned_ms = assigned_ms
        self._first: int | None = None
        self._order: deque[int] = deque()
        self._done: set[int] = set()
        self._waiting: deque[tuple[int, T]] = deque()
        self._committable: int | None = None
        self._committed: int | None = None

    def take(self, offset: int, item: T) -> None:
        """Offsets come in order. What is taken can be started once `ready` gives it."""
        if self._first is None:
            self._first = self._committed = self._committable = offset
        self._order.append(offset)
        self._waiting.append((offset, item))
        self.held += 1

    def ready(self) -> list[T]:
        """What may be started now, each item once, in order."""
        found: list[T] = []
        while self._waiting and self._committed is not None and self._waiting[0][0] < self._committed + self._size:
            found.append(self._waiting.popleft()[1])
        return found

    def maybe_sent(self, offset: int, timestamp_ms: int) -> bool:
        """May whoever had the partition before have sent it? What was written later, or lies further on, cannot be."""
        assert self._first is not None
        return offset < self._first + self._size and timestamp_ms <= self._assigned_ms

    def done(self, offset: int) -> None:
        self._done.add(offset)
        while self._order and self._order[0] in self._done:
            self._done.discard(self._order[0])
            self._committable = self._order.popleft() + 1
            self.held -= 1

    @property
    def is_full(self) -> bool:
        """Does something wait for the committed offset to move?"""
        return bool(self._waiting)

    def to_commit(self) -> int | None:
        """The offset to commit, when it rose since the last `committed`."""
        return None if self._committable == self._committed else self._committable

    def committed(self, offset: int) -> None:
        self._committed = offset
