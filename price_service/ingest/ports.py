"""What the ingest needs of the outside."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from infra.contracts import Instrument
from price_service.domain.days import Day, DayKey, Snapshot
from price_service.store.records import Batch


class TickStore(Protocol):
    """Every method raises StoreAway when the store does not answer."""

    async def adopt(self, partitions: Collection[int]) -> Snapshot:
        """Where these partitions stand (0 when new), and the latest day of each symbol seen in them."""
        ...

    async def days(self, keys: Collection[DayKey]) -> list[Day]:
        """Those of these days that are stored."""
        ...

    async def save(self, batch: Batch) -> None:
        """All of the batch or nothing. Raises Conflict when an offset is not where the batch expects it."""
        ...

    async def keep(self, instruments: Iterable[Instrument]) -> None:
        """Store these listings; an earlier session's never replaces a later one's."""
        ...
