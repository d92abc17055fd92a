"""What making up history needs of the store."""

from __future__ import annotations

from typing import Protocol

from infra.contracts import Instrument
from price_service.seed.history import MadeUp


class SeedStore(Protocol):
    """Every method raises StoreAway when the store does not answer."""

    async def unseeded(self) -> list[Instrument]:
        """Every listed symbol that was not seeded yet; those with bars of their own are among them."""
        ...

    async def save(self, made: MadeUp, before_ns: int) -> bool:
        """All of it or nothing. False, and nothing is written, for a symbol that was seeded already or that has bars
        of its own from before `before_ns`."""
        ...
