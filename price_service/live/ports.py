"""What the hub needs of the outside, beside the bus and the cache."""

from __future__ import annotations

from typing import Protocol

from price_service.domain.days import Snapshot


class Snapshots(Protocol):
    async def snapshot(self) -> Snapshot:
        """The store's latest days and offsets. Raises StoreAway when it does not answer."""
        ...
