"""A one-minute bar of one symbol: what trades add up to, in whatever order they come.

Open and close are the first and last trade by (event time, session, sequence): a late trade corrects the bar it belongs
to. Every trade counts in volume, trades and notional (so in VWAP); the condition rule decides on the prices.
"""

from __future__ import annotations

import msgspec

from infra.clock import NS_PER_S
from infra.contracts import Trade
from price_service.domain.conditions import sets_prices

MINUTE_NS = 60 * NS_PER_S


class Bar(msgspec.Struct):
    """`bucket_ns` is the bar's start. Prices are micros and None until a trade sets prices; `notional_micros` is the
    sum of price × size, whatever its length. `first_…` and `last_…` identify the trades that gave open and close."""

    symbol: str
    bucket_ns: int
    open: int | None = None
    high: int | None = None
    low: int | None = None
    close: int | None = None
    volume: int = 0
    trades: int = 0
    notional_micros: int = 0
    first_ns: int | None = None
    first_session: int | None = None
    first_q: int | None = None
    last_ns: int | None = None
    last_session: int | None = None
    last_q: int | None = None

    @property
    def first(self) -> tuple[int, int, int]:
        return (self.first_ns or 0, self.first_session or 0, self.first_q or 0)

    @property
    def last(self) -> tuple[int, int, int]:
        return (self.last_ns or 0, self.last_session or 0, self.last_q or 0)

    def add(self, trade: Trade) -> None:
        self.volume += trade.z
        self.trades += 1
        self.notional_micros += trade.p * trade.z
        if not sets_prices(trade.c):
            return
        place, price = (trade.t, trade.d, trade.q), trade.p
        if self.open is None or place < self.first:
            self.open = price
            self.first_ns, self.first_session, self.first_q = place
        if self.close is None or place > self.last:
            self.close = price
            self.last_ns, self.last_session, self.last_q = place
        self.high = price if self.high is None or price > self.high else self.high
        self.low = price if self.low is None or price < self.low else self.low

    def merge(self, other: Bar) -> None:
        """Add a bar of the same symbol and minute made of other trades."""
        self.volume += other.volume
        self.trades += other.trades
        self.notional_micros += other.notional_micros
        if other.open is None or other.high is None or other.low is None:
            return
        if self.open is None or other.first < self.first:
            self.open = other.open
            self.first_ns, self.first_session, self.first_q = other.first
        if self.close is None or other.last > self.last:
            self.close = other.close
            self.last_ns, self.last_session, self.last_q = other.last
        self.high = other.high if self.high is None else max(self.high, other.high)
        self.low = other.low if self.low is None else min(self.low, other.low)
