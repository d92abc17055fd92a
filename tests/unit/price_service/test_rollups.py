"""The parts around roll-ups and retention, and what follows from the server's edition."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from infra.process import background
from price_service.rollups.editions import can_compress
from price_service.rollups.ports import Dropped
from price_service.rollups.retention import CHUNKS_MAX, Retention
from price_service.rollups.rollups import Rollups
from price_service.store.records import StoreAway


@pytest.mark.parametrize(
    ("found", "allowed", "expected"),
    [
        ("timescale", True, True),
        ("timescale", False, False),
        ("apache", True, False),
        (None, True, False),
    ],
)
def test_only_the_community_edition_compresses_and_only_if_it_may(
    found: str | None, allowed: bool, expected: bool
) -> None:
    assert can_compress(found, allowed) is expected


class Marked:
    """A store with dirty partitions, away at its first question."""

    def __init__(self, dirty: Collection[int]) -> None:
        self._dirty = set(dirty)
        self.questions = 0
        self.rolled: list[int] = []
        self.done = asyncio.Event()

    async def dirty(self) -> Collection[int]:
        self.questions += 1
        if self.questions == 1:
            raise StoreAway("starting")
        return self._dirty

    async def roll(self, partitions: Collection[int]) -> int:
        self.rolled += sorted(partitions)
        self._dirty -= set(partitions)
        self.done.set()
        return len(partitions)


async def test_own_partitions_are_rolled_up_also_after_the_store_was_away() -> None:
    store = Marked({1, 2, 5})
    async with background(Rollups(store, lambda: {1, 2, 3}, every_ms=1).run), asyncio.timeout(5):
        await store.done.wait()
    assert store.rolled == [1, 2]


class Chunks:
    """A store with one old chunk per table."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    async def compress(self, allowed: bool) -> bool:
        return allowed

    async def drop(self, table: str, kept_days: int, chunks_max: int) -> list[Dropped]:
        self.asked.append((table, kept_days, chunks_max))
        return [Dropped(table, "1")]


async def test_each_table_has_its_own_age_and_every_round_is_bounded() -> None:
    store = Chunks()
    await Retention(store, {"ticks": 30, "bars_1m": 730}, compress=False).round()
    assert store.asked == [("ticks", 30, CHUNKS_MAX), ("bars_1m", 730, CHUNKS_MAX)]
