"""Keeps the cache's copy of the days, so that a hub that starts is current at once.

One map holds a field `q:<symbol>` per day and `o:<partition>` per offset, written together. Nothing waits for it: the
cache may be away, and the next write puts everything right, because a day is cumulative and knows which ticks it has
taken. Only partitions that moved are written, and then whole: a moved offset proves that the partition is still ours,
and a whole one heals a cache that has lost its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from infra.cache import Cache, CacheDown
from infra.clock import wait
from infra.telemetry import CACHE_SKIPPED
from price_service.domain.days import Day
from price_service.store.cached import MAP, fields

log = structlog.get_logger(__name__)


class Mirror:
    """`write_ms` is the least time between two writes; `skipped` counts those that the cache did not take."""

    def __init__(self, cache: Cache, write_ms: int) -> None:
        self._cache = cache
        self._write_s = write_ms / 1000
        self._days: dict[int, dict[str, Day]] = {}
        self._offsets: dict[int, int] = {}
        self._moved: set[int] = set()
        self.skipped = 0

    def changed(self, days: Iterable[Day]) -> None:
        """These days have newer values; of each symbol only the latest session's is kept."""
        for day in days:
            mine = self._days.setdefault(day.partition, {})
            held = mine.get(day.symbol)
            if held is None or held.session <= day.session:
                mine[day.symbol] = day

    def moved(self, partition: int, offset: int) -> None:
        """What is known of this partition is committed up to `offset`."""
        self._offsets[partition] = offset
        self._moved.add(partition)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await wait(stop, self._write_s)
            await self.write()

    async def write(self) -> None:
        """Bring the cache up to date, if it answers."""
        moved, self._moved = self._moved, set()
        if not moved:
            return
        try:
            await self._cache.write_map(MAP, self._fields(moved))
        except CacheDown as error:
            self._moved |= moved
            self.skipped += 1
            CACHE_SKIPPED.inc()
            log.warning("cache_write_skipped", error=str(error), skipped=self.skipped, partitions=len(self._moved))

    def _fields(self, partitions: set[int]) -> Mapping[str, bytes]:
        days = [day for partition in partitions for day in self._days.get(partition, {}).values()]
        return fields({partition: self._offsets[partition] for partition in partitions}, days)
