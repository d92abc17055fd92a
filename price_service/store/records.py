"""What goes into the store in one transaction, and how the store says no."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from infra.contracts import Tick
from price_service.domain.bars import Bar
from price_service.domain.days import Day
from price_service.store.columns import Columns


class Conflict(Exception):
    """Another worker has moved a partition's offset meanwhile. Nothing was stored; load again what the store has."""


class StoreAway(Exception):
    """The store does not answer. Trying again later can help; whether the last save was made is not known."""


class Received(NamedTuple):
    """A tick and when our house took it from the venue, Unix milliseconds."""

    tick: Tick
    received_ms: int


class Move(NamedTuple):
    """A partition's offset goes from `expected` to `following`, or the whole batch is refused."""

    partition: int
    expected: int
    following: int


@dataclass(slots=True)
class Batch:
    """One transaction: new ticks only, the bars that they add up to, and the days after them.

    Nothing here is changed any more: the days are copies.
    """

    moves: list[Move] = field(default_factory=list)
    ticks: list[Columns] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    days: list[Day] = field(default_factory=list)
    duplicates: int = 0

    @property
    def count(self) -> int:
        """How many ticks."""
        return sum(map(len, self.ticks))
