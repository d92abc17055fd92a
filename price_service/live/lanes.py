"""Many followers in lanes, which are flushed one after the other.

A flush of thousands of clients takes longer than its interval. What it writes to the last of them would be as old as
the whole flush; with lanes it is as old as one lane's, because each begins with what is newest by then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Protocol

from infra.clock import Clock
from price_service.live.followers import Counts, Follower, Followers, Frames, Framing, Item, Sink


class Joinable(Protocol):
    """What clients need of `Followers`, and of `Lanes` of them."""

    @property
    def counts(self) -> Counts: ...

    def __len__(self) -> int: ...

    def join(self, keys: Collection[str], sink: Sink, framing: Framing, since_ms: int | None = None) -> Follower: ...

    def change(self, follower: Follower, keys: Collection[str]) -> None: ...

    def leave(self, follower: Follower) -> bool: ...


class Lanes:
    """As `Followers`, which see. A client stays in its lane."""

    def __init__(
        self, clock: Clock, wake: Callable[[], None], count: int, unsent_bytes_max: int, stuck_s: float
    ) -> None:
        frames: dict[Framing, Frames] = {}
        self.lanes = [Followers(clock, wake, unsent_bytes_max, stuck_s, frames) for _ in range(count)]

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    @property
    def counts(self) -> Counts:
        all_counts = [lane.counts for lane in self.lanes]
        return Counts(
            frames=sum(counts.frames for counts in all_counts),
            writes=sum(counts.writes for counts in all_counts),
            skips=sum(counts.skips for counts in all_counts),
            stuck=sum(counts.stuck for counts in all_counts),
        )

    def join(self, keys: Collection[str], sink: Sink, framing: Framing, since_ms: int | None = None) -> Follower:
        return min(self.lanes, key=len).join(keys, sink, framing, since_ms)

    def change(self, follower: Follower, keys: Collection[str]) -> None:
        follower.whose.change(follower, keys)

    def leave(self, follower: Follower) -> bool:
        return follower.whose.leave(follower)

    def publish(self, items: Mapping[str, Item]) -> None:
        for lane in self.lanes:
            lane.publish(items)

    def beating(self) -> Iterator[None]:
        return chain.from_iterable(lane.beating() for lane in self.lanes)
