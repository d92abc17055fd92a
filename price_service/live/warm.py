"""What a hub starts from: the days that the ingest left in the cache, else in the store, else nothing."""

from __future__ import annotations

import structlog

from infra.cache import Cache, CacheDown
from infra.contracts import Malformed
from price_service.domain.days import Snapshot
from price_service.live.ports import Snapshots
from price_service.store.cached import MAP, snapshot
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)


async def warm(cache: Cache, store: Snapshots) -> Snapshot:
    """Days, and the offsets to read on from. Without the cache the start is slower, never wrong."""
    found = await _from_cache(cache)
    if found is None or not found.offsets:
        found = await _from_store(store)
    if found is None or not found.offsets:
        return Snapshot({}, [])
    log.info("hub_warmed", days=len(found.days), offsets=len(found.offsets))
    return found


async def _from_cache(cache: Cache) -> Snapshot | None:
    try:
        return snapshot(await cache.read_map(MAP))
    except (CacheDown, Malformed) as error:
        log.warning("hub_starts_without_the_cache", error=str(error))
        return None


async def _from_store(store: Snapshots) -> Snapshot | None:
    try:
        return await store.snapshot()
    except StoreAway as error:
        log.warning("hub_starts_without_the_store", error=str(error))
        return None
