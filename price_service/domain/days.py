"""A day: what is known of one symbol in one session, exact under any repetition and reordering of its ticks.

The ingest stores a day in the transaction of its ticks; every hub holds its own copy. Because a day carries the numbers
it has taken, a copy that is newer than the offset from which reading goes on is as good as one of the same age.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from infra.contracts import Tick, Trade
from price_service.domain.conditions import sets_prices
from price_service.domain.seen import Seen


class DayKey(NamedTuple):
    symbol: str
    session: int


class Day(msgspec.Struct):
    """Prices in micros, 0 where there was none yet; `…_q` is the sequence number that set a value.

    `price`, open, high and low are of trades that set prices, `print_price` of the last one that does not; `volume`
    counts every trade. `received_ms` is the newest receive time, `time_ns` the event time of the newest tick.
    """

    symbol: str
    session: int
    partition: int
    seen: Seen = msgspec.field(default_factory=Seen)
    price: int = 0
    size: int = 0
    price_q: int = 0
    print_price: int = 0
    print_size: int = 0
    print_q: int = 0
    bid: int = 0
    bid_size: int = 0
    ask: int = 0
    ask_size: int = 0
    quote_q: int = 0
    open: int = 0
    open_q: int = 0
    high: int = 0
    low: int = 0
    volume: int = 0
    time_ns: int = 0
    time_q: int = 0
    received_ms: int = 0

    @property
    def key(self) -> DayKey:
        return DayKey(self.symbol, self.session)

    def apply(self, tick: Tick, received_ms: int) -> bool:
        """Take one tick of this symbol and session. False when it was taken before."""
        q = tick.q
        if not self.seen.add(q):
            return False
        if q > self.time_q:
            self.time_q, self.time_ns = q, tick.t
        if received_ms > self.received_ms:
            self.received_ms = received_ms
        if isinstance(tick, Trade):
            self._trade(tick)
        elif q > self.quote_q:
            self.quote_q = q
            self.bid, self.bid_size, self.ask, self.ask_size = tick.b, tick.bz, tick.a, tick.az
        return True

    def merge(self, part: Day) -> None:
        """Take what a day of the same symbol and session holds that was made of other ticks; not `seen`, which says
        who has what."""
        self.volume += part.volume
        self.received_ms = max(self.received_ms, part.received_ms)
        if part.time_q > self.time_q:
            self.time_q, self.time_ns = part.time_q, part.time_ns
        if part.quote_q > self.quote_q:
            self.quote_q = part.quote_q
            self.bid, self.bid_size, self.ask, self.ask_size = part.bid, part.bid_size, part.ask, part.ask_size
        if part.print_q > self.print_q:
            self.print_q, self.print_price, self.print_size = part.print_q, part.print_price, part.print_size
        if not part.price_q:
            return
        if part.price_q > self.price_q:
            self.price_q, self.price, self.size = part.price_q, part.price, part.size
        if not self.open_q or part.open_q < self.open_q:
            self.open_q, self.open = part.open_q, part.open
        self.high = max(self.high, part.high)
        self.low = min(self.low, part.low) if self.low else part.low

    def copy(self) -> Day:
        """As it is now."""
        return msgspec.structs.replace(self, seen=Seen(self.seen.contiguous, list(self.seen.above)))

    @property
    def last(self) -> tuple[int, int]:
        """Price and size of the last trade that set prices; before there is one, of the last trade of any kind."""
        return (self.price, self.size) if self.price_q else (self.print_price, self.print_size)

    def _trade(self, trade: Trade) -> None:
        self.volume += trade.z
        q, price = trade.q, trade.p
        if not sets_prices(trade.c):
            if q > self.print_q:
                self.print_q, self.print_price, self.print_size = q, price, trade.z
            return
        if q > self.price_q:
            self.price_q, self.price, self.size = q, price, trade.z
        if not self.open_q or q < self.open_q:
            self.open_q, self.open = q, price
        if price > self.high:
            self.high = price
        if not self.low or price < self.low:
            self.low = price


class Snapshot(NamedTuple):
    """Days and, per partition of `prices`, the offset to read on from. No day is older than its partition's offset."""

    offsets: dict[int, int]
    days: list[Day]


def newest(days: Iterable[Day]) -> list[Day]:
    """The day of the latest session of each symbol."""
    latest: dict[str, Day] = {}
    for day in days:
        held = latest.get(day.symbol)
        if held is None or day.session > held.session:
            latest[day.symbol] = day
    return list(latest.values())
