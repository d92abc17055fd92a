"""What is kept for how long, judged by when our house received it, not by the venue's clock, which may be a recorded
day's. Whole chunks go, never rows. Hours and days are kept for good.

The part runs in one process at a time; should two do, one finds nothing left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from infra.clock import wait
from infra.telemetry import CHUNKS_DROPPED
from price_service.rollups.ports import RetentionStore
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)

EVERY_S = 3600.0
AGAIN_S = 60.0
# Of one table in one round. Two days' worth of the busiest table, so that a backlog shrinks.
CHUNKS_MAX = 24


class Retention:
    """`kept_days` names the tables and for how many days each is kept."""

    def __init__(self, store: RetentionStore, kept_days: Mapping[str, int], compress: bool) -> None:
        self._store = store
        self._kept_days = kept_days
        self._compress = compress

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.round()
                pause_s = EVERY_S
            except StoreAway as error:
                log.warning("retention_waits_for_the_store", error=str(error))
                pause_s = AGAIN_S
            await wait(stop, pause_s)

    async def round(self) -> None:
        compressed = await self._store.compress(self._compress)
        for table, days in self._kept_days.items():
            for dropped in await self._store.drop(table, days, CHUNKS_MAX):
                CHUNKS_DROPPED.labels(table).inc()
                log.info("chunk_dropped", table=table, chunk=dropped.chunk, kept_days=days)
        log.info("retention_done", compressed=compressed)
