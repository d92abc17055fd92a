"""What the roll-up and the retention need of the store."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol


class RollupStore(Protocol):
    """Every method raises StoreAway when the store does not answer."""

    async def dirty(self) -> Collection[int]:
        """The partitions of `prices` that have hours to roll up."""
        ...

    async def roll(self, partitions: Collection[int]) -> int:
        """The dirty hours of these partitions and the days they are in, a bounded number in one transaction. Returns
        how many hours that were. Any number of workers may do the same at the same time."""
        ...


class Dropped(NamedTuple):
    table: str
    chunk: str


class RetentionStore(Protocol):
    """Every method raises StoreAway when the store does not answer."""

    async def compress(self, allowed: bool) -> bool:
        """Have old chunks of ticks compressed, if `allowed` and the server can. Returns whether they are."""
        ...

    async def drop(self, table: str, kept_days: int, chunks_max: int) -> list[Dropped]:
        """Drop at most so many chunks of `table` that took nothing within the last `kept_days` days."""
        ...
