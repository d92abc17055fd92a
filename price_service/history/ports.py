"""What the history needs of the outside."""

from __future__ import annotations

from typing import Protocol

from price_service.domain.points import Found, Point, Window


class HistoryStore(Protocol):
    """Every method raises StoreAway when the store does not answer."""

    async def points(self, symbol: str, window: Window, points_max: int) -> list[Point]:
        """The newest `points_max` points of the window, ascending. A bucket without trades has no point."""
        ...

    async def search(self, text: str, found_max: int) -> list[Found]:
        """Symbols that start with the text first, then those whose name contains it, each in order of symbol."""
        ...

    async def known(self, symbol: str) -> bool:
        """Whether the symbol is or was traded here."""
        ...
