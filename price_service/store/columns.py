"""Ticks side by side, an array for each field: what is done to a hundred thousand ticks a second is done to arrays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.contracts import Tick, Trade

Numbers = NDArray[np.int64]
T = TypeVar("T", bound=Hashable)


class Columns:
    """Ticks in the order given. `day` is each one's place in `days`, the (symbol, session) that occur.

    `trades` and `quotes` are the places of each kind among all. What only one kind has, stands in the order of that
    kind: price `p`, size `z`, conditions `c` and venue code `x` of trades, `b`, `bz`, `a`, `az` of quotes.
    """

    def __init__(self, ticks: Sequence[Tick], received_ms: Sequence[int]) -> None:
        self.ticks, self.received_ms = ticks, np.maximum(np.array(received_ms, np.int64), 0)
        self.q, self.t, self.session = (_field(name, ticks) for name in "qtd")
        symbol, symbols = coded([tick.s for tick in ticks])
        sessions, session = np.unique(self.session, return_inverse=True)
        pairs, self.day = np.unique(symbol * len(sessions) + session, return_inverse=True)
        self.days = [(symbols[pair // len(sessions)], int(sessions[pair % len(sessions)])) for pair in pairs.tolist()]
        is_trade = np.fromiter([type(tick) is Trade for tick in ticks], np.bool_, len(ticks))
        self.trades, self.quotes = np.flatnonzero(is_trade), np.flatnonzero(~is_trade)
        trades, quotes = list(compress(ticks, is_trade)), list(compress(ticks, ~is_trade))
        self.p, self.z, self.c = (_field(name, trades) for name in "pzc")
        self.x, self.venues = coded(list(map(attrgetter("x"), trades)))
        self.b, self.bz, self.a, self.az = (_field(name, quotes) for name in ("b", "bz", "a", "az"))

    def __len__(self) -> int:
        return len(self.ticks)


class Groups(NamedTuple):
    """Equal neighbours in a sorted array: the first and last place of each group, and what they have in common."""

    first: Numbers
    last: Numbers
    common: list[int]


def groups(ordered: Numbers) -> Groups:
    borders = np.flatnonzero(ordered[1:] != ordered[:-1])
    first = np.concatenate(([0], borders + 1)) if len(ordered) else borders
    last = np.concatenate((borders, [len(ordered) - 1])) if len(ordered) else borders
    return Groups(first, last, ordered[first].tolist())


def coded(values: Sequence[T]) -> tuple[Numbers, list[T]]:
    """Each value as its place in a list of those that occur."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return np.fromiter(map(places.__getitem__, values), np.int64, len(values)), list(places)


def _field(name: str, ticks: Sequence[Any]) -> Numbers:
    return np.fromiter(map(attrgetter(name), ticks), np.int64, len(ticks))
