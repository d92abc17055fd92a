"""A stretch of tape: as numpy columns where it is read or made, as plain lists where it is played.

Columns are named as in the tape files. Their prices are integer dollars x 10,000 (`e4`); played prices are micros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MICROS_PER_E4 = 100

Ints = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows in time order. `symbol` and `exch` are places in `symbols` and `venues`; what a row does not have is 0."""

    ts_event: Ints
    symbol: Ints
    is_trade: NDArray[np.bool_]
    price_e4: Ints
    size: Ints
    exch: Ints
    cond: Ints
    bid_e4: Ints
    bid_sz: Ints
    ask_e4: Ints
    ask_sz: Ints
    symbols: list[str]
    venues: list[str]

    def __len__(self) -> int:
        return len(self.ts_event)

    def cut(self, start: int, stop: int) -> Columns:
        arrays = {name: getattr(self, name)[start:stop] for name in _ARRAYS}
        return Columns(**arrays, symbols=self.symbols, venues=self.venues)


_ARRAYS = (
    "ts_event",
    "symbol",
    "is_trade",
    "price_e4",
    "size",
    "exch",
    "cond",
    "bid_e4",
    "bid_sz",
    "ask_e4",
    "ask_sz",
)


class Rows(NamedTuple):
    """The same rows as parallel lists; prices in micros, times in ns UTC."""

    ts_ns: list[int]
    symbol: list[str]
    is_trade: list[bool]
    price: list[int]
    size: list[int]
    exch: list[str]
    cond: list[int]
    bid: list[int]
    bid_size: list[int]
    ask: list[int]
    ask_size: list[int]


def rows_of(columns: Columns) -> Rows:
    symbols, venues = columns.symbols, columns.venues
    return Rows(
        ts_ns=columns.ts_event.tolist(),
        symbol=[symbols[code] for code in columns.symbol.tolist()],
        is_trade=columns.is_trade.tolist(),
        price=_micros(columns.price_e4),
        size=columns.size.tolist(),
        exch=[venues[code] for code in columns.exch.tolist()],
        cond=columns.cond.tolist(),
        bid=_micros(columns.bid_e4),
        bid_size=columns.bid_sz.tolist(),
        ask=_micros(columns.ask_e4),
        ask_size=columns.ask_sz.tolist(),
    )


def _micros(e4: Ints) -> list[int]:
    micros: list[int] = (e4.astype(np.int64) * MICROS_PER_E4).tolist()
    return micros


class Listing(NamedTuple):
    """What is known of a symbol before its first tick."""

    name: str
    previous_close_micros: int  # 0 when unknown


@dataclass(frozen=True, slots=True)
class Tape:
    """A day that can be played again and again. `play` starts a new pass."""

    label: str
    listings: Mapping[str, Listing]
    play: Callable[[], Iterator[Columns]]


def windowed(parts: Iterator[Columns], from_ns: int, rows_max: int) -> Iterator[Columns]:
    """Only rows from `from_ns` on, and at most `rows_max` of them (0 = all)."""
    left = rows_max or None
    for part in parts:
        start = int(np.searchsorted(part.ts_event, from_ns))
        stop = len(part) if left is None else min(len(part), start + left)
        if start < stop:
            yield part.cut(start, stop)
        if left is not None:
            left -= max(0, stop - start)
            if left == 0:
                return
