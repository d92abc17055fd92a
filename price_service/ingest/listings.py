"""Stores what the venue lists (topic `instruments`, compacted: read whole at every start)."""

from __future__ import annotations

import asyncio

import structlog

from infra.bus import Bus
from infra.clock import wait
from infra.contracts import INSTRUMENTS, Instrument, Malformed, decode
from price_service.ingest.ports import TickStore
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)

MESSAGES_MAX = 1000
WAIT_S = 0.2
RETRY_S = 1.0


class ListingsKeeper:
    def __init__(self, bus: Bus, store: TickStore) -> None:
        self._bus = bus
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        subscription = await self._bus.read([INSTRUMENTS], "earliest")
        try:
            while not stop.is_set():
                found = [m.value for m in await subscription.batch(MESSAGES_MAX, WAIT_S) if m.value is not None]
                await self._store_all([i for i in map(_instrument, found) if i is not None], stop)
        finally:
            await subscription.close()

    async def _store_all(self, instruments: list[Instrument], stop: asyncio.Event) -> None:
        while instruments and not stop.is_set():
            try:
                await self._store.keep(instruments)
            except StoreAway as error:
                log.warning("listings_wait_for_the_store", error=str(error))
                await wait(stop, RETRY_S)
            else:
                return


def _instrument(value: bytes) -> Instrument | None:
    """A compacted topic is nobody's queue, so what cannot be read is logged and passed over, not parked."""
    try:
        return decode(Instrument, value)
    except Malformed as error:
        log.error("instrument_malformed", error=str(error))
        return None
