"""The part of the worker that brings hours and days up to their minutes, every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from infra.clock import wait
from infra.telemetry import HOURS_ROLLED
from price_service.rollups.ports import RollupStore
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)


class Rollups:
    """`owned` names the partitions that this worker consumes; those of others are theirs to roll up."""

    def __init__(self, store: RollupStore, owned: Callable[[], Collection[int]], every_ms: int) -> None:
        self._store = store
        self._owned = owned
        self._every_s = every_ms / 1000

    async def run(self, stop: asyncio.Event) -> None:
        """What is left undone, because the store is away or the partition goes to another worker, stays marked."""
        while not stop.is_set():
            await wait(stop, self._every_s)
            try:
                mine = set(self._owned()) & set(await self._store.dirty())
                HOURS_ROLLED.inc(await self._store.roll(mine))
            except StoreAway as error:
                log.warning("rollups_wait_for_the_store", error=str(error))
