"""How many may ask at one time. More would not be answered sooner: they would wait for the same few connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from price_service.domain import reasons
from price_service.domain.reasons import refusal

# One caller's part of all places.
SHARE = 4
# One fewer than the doors have connections to the store: what resumes a stream must not wait behind charts.
AT_THE_STORE_MAX = 3


class Gate:
    """`places_max` requests of a process are answered or wait for their turn; of one caller a quarter of them."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._each_max = max(places_max // SHARE, 1)
        self._taken: Counter[str] = Counter()
        self._turns = asyncio.Semaphore(AT_THE_STORE_MAX)

    @contextlib.asynccontextmanager
    async def entered(self, caller: str) -> AsyncIterator[None]:
        """Waits for a turn. Raises Refusal at once when there is no place."""
        if self._taken.total() >= self._places_max or self._taken[caller] >= self._each_max:
            raise refusal(reasons.HISTORY_BUSY, retry_after_s=1)
        self._taken[caller] += 1
        try:
            async with self._turns:
                yield
        finally:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]
