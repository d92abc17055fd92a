"""Holes in what a client of every tick has got, and when something is done about them.

A number that is missing mostly comes by itself: late, or because the venue was asked for it again. What the hub never
saw, since it was cut off from the bus for a while, the store may have. In the end the client is told.
"""

from __future__ import annotations

from typing import NamedTuple

from price_service.live.every import Progress
from price_service.live.places import Place

# Seconds after which the store is asked for what is missing; after the last the client is told.
ASK_AFTER_S = (3.0, 10.0, 30.0)


class _Hole(NamedTuple):
    place: Place
    since_s: float
    asked: int


class Patience:
    """The oldest hole of each symbol. Pure: time is an argument, in seconds of a clock that never goes back."""

    def __init__(self, ask_after_s: tuple[float, ...] = ASK_AFTER_S) -> None:
        self._ask_after_s = ask_after_s
        self._open: dict[str, _Hole] = {}

    def __bool__(self) -> bool:
        """Does anything have to be looked at again, even if no tick comes?"""
        return bool(self._open)

    def due(self, progress: Progress, now_s: float) -> list[tuple[str, bool]]:
        """The symbols about whose hole the store is to be asked now; True with those that are given up after that."""
        found: list[tuple[str, bool]] = []
        still: dict[str, _Hole] = {}
        for symbol in progress.symbols:
            if not progress.seen(symbol).above:
                continue
            place, hole = progress.place(symbol), self._open.get(symbol)
            if hole is None or hole.place != place:
                hole = _Hole(place, now_s, 0)
            elif now_s - hole.since_s >= self._ask_after_s[hole.asked]:
                is_last = hole.asked + 1 == len(self._ask_after_s)
                found.append((symbol, is_last))
                hole = _Hole(place, now_s, 0) if is_last else hole._replace(asked=hole.asked + 1)
            still[symbol] = hole
        self._open = still
        return found
