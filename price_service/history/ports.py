"""What the history needs of the outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from price_service.domain.points import About, Action, Found, Point, Window


class HistoryStore(Protocol):
    """Every method raises StoreAway when the store does not answer."""

    async def points(self, symbol: str, window: Window, points_max: int) -> list[Point]:
        """The newest `points_max` points of the window, ascending, from everything that was committed before. A bucket
        without trades has no point. Buckets are seconds, whole minutes, an hour, or days in a zone."""
        ...

    async def about(self, symbol: str) -> About:
        """Whether the symbol is or was traded here, and what else is known of it."""
        ...

    async def search(self, text: str, found_max: int, traded_since_ns: int) -> list[Found]:
        """Symbols that match the text, in the order of `domain.likeness.RANKS`; of equal rank first those with most
        money traded since that moment."""
        ...


class ActionStore(Protocol):
    """Raises StoreAway when the store does not answer."""

    async def keep_actions(self, actions: Sequence[tuple[str, Action]]) -> None:
        """Of (symbol, action) all or none; one of the same symbol, ex-date and kind is replaced."""
        ...
