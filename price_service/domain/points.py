"""A history as it is asked for and answered: a window of time, and the points in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from price_service.domain.bars import Bar


class Window(NamedTuple):
    """From (inclusive) to (exclusive), cut into buckets; both lie on a bucket's bounds. With a `zone` a bucket is a
    calendar day there, else it is `bucket_ns` long and starts at a multiple of it since the epoch."""

    from_ns: int
    to_ns: int
    bucket_ns: int
    zone: str | None = None


class Point(NamedTuple):
    """Bars of one bucket together. Prices are micros, None where no trade set them."""

    time_ns: int
    open: int | None
    high: int | None
    low: int | None
    close: int | None
    volume: int
    trades: int
    notional_micros: int

    @classmethod
    def of(cls, time_ns: int, bar: Bar) -> Point:
        return cls(time_ns, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades, bar.notional_micros)

    def followed_by(self, bar: Bar) -> Point:
        """With a later minute's bar added."""
        highs = [price for price in (self.high, bar.high) if price is not None]
        lows = [price for price in (self.low, bar.low) if price is not None]
        return Point(
            self.time_ns,
            bar.open if self.open is None else self.open,
            max(highs, default=None),
            min(lows, default=None),
            self.close if bar.close is None else bar.close,
            self.volume + bar.volume,
            self.trades + bar.trades,
            self.notional_micros + bar.notional_micros,
        )

    @property
    def vwap_micros(self) -> int | None:
        """Volume-weighted average price, rounded half up to a micro."""
        return (2 * self.notional_micros + self.volume) // (2 * self.volume) if self.volume else None


class Shown(NamedTuple):
    """A point as a client gets it. Prices and `vwap` (volume-weighted average price) are micros."""

    time_ns: int
    open: int | None
    high: int | None
    low: int | None
    close: int | None
    volume: int
    trades: int
    vwap: int | None


class Action(NamedTuple):
    """A corporate action: prices before `ex_date`, times numerator / denominator, compare with those after it. A split
    divides sizes by the same ratio; a dividend leaves them."""

    ex_date: date
    kind: str
    price_numerator: int
    price_denominator: int


class About(NamedTuple):
    """What is known of a symbol beside its bars. Bars before `synthetic_before_ns` were made up."""

    known: bool
    synthetic_before_ns: int | None = None
    actions: Sequence[Action] = ()


class Found(NamedTuple):
    """One answer to a search."""

    symbol: str
    name: str
