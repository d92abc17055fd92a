"""One symbol's order book: price first, then time. Pure: numbers in, fills out; no clock, no ids of its own.

The tape's latest quote stands in the book as the market maker's (MM) bid and ask. Client orders match the MM and each
other. Time is a *stamp* that only grows; of two interests at one price the smaller stamp is served first. The MM keeps
its stamp while its price stays and its size does not rise, the rule that also holds for a client's replaced order.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from exchange_gateway.simulator.messages import Side

MARKET_MAKER = 0  # order number of the MM in a fill; orders count from 1


class Fill(NamedTuple):
    """`maker` was resting and sets the price; `taker` came to it."""

    maker: int
    taker: int
    quantity: int
    price_micros: int


@dataclass(slots=True)
class Resting:
    """A client order in the book, or the MM's interest on one side (size 0 when it has none)."""

    number: int
    price: int
    leaves: int
    stamp: int


class _Half:
    """One side of the book. `sign` makes the better price the greater number: +1 for bids, -1 for asks.

    `orders` is sorted with the best one last, so that taking it is cheap.
    """

    __slots__ = ("maker", "orders", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.maker = Resting(MARKET_MAKER, 0, 0, 0)
        self.orders: list[Resting] = []

    def key(self, order: Resting) -> tuple[int, int]:
        return self.sign * order.price, -order.stamp

    def insert(self, order: Resting) -> None:
        bisect.insort(self.orders, order, key=self.key)

    def remove(self, order: Resting) -> None:
        place = bisect.bisect_left(self.orders, self.key(order), key=self.key)
        assert self.orders[place] is order, "the book lost an order"
        del self.orders[place]

    def best(self) -> Resting | None:
        """The interest to serve next."""
        order = self.orders[-1] if self.orders else None
        if not self.maker.leaves:
            return order
        if order is None or self.key(self.maker) > self.key(order):
            return self.maker
        return order

    def reaches(self, price: int, limit: int | None) -> bool:
        """Whether an order from the other side with this limit may trade at `price`."""
        return limit is None or self.sign * price >= self.sign * limit


class Book:
    """The book of one symbol. Quantities are shares, prices micros."""

    __slots__ = ("_by_number", "_halves", "asks", "bids")

    def __init__(self) -> None:
        self.bids, self.asks = _Half(+1), _Half(-1)
        self._halves = {"BUY": self.bids, "SELL": self.asks}
        self._by_number: dict[int, tuple[_Half, Resting]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def resting(self, side: Side) -> Iterator[Resting]:
        """The client orders of one side, the first to be served first."""
        return reversed(self._halves[side].orders)

    def quote(self, bid: int, bid_size: int, ask: int, ask_size: int, stamp: int) -> list[Fill]:
        """Replace the MM's quote; client orders that it reaches are filled at their own limit."""
        _stand(self.bids.maker, bid, bid_size, stamp)
        _stand(self.asks.maker, ask, ask_size, stamp)
        if not self._by_number:
            return []
        return [*self._hit(self.asks, self.bids.maker), *self._hit(self.bids, self.asks.maker)]

    def trade(self, price: int, size: int) -> list[Fill]:
        """A print on the tape: orders whose limit it went strictly through are filled, up to its size."""
        if not self._by_number:
            return []
        for half in (self.bids, self.asks):
            orders = half.orders
            if orders and half.sign * orders[-1].price > half.sign * price:
                through = Resting(MARKET_MAKER, price, size, 0)
                return self._hit(half, through, strictly=True)
        return []

    def available(self, side: Side, limit: int | None, enough: int) -> int:
        """Shares that an order on `side` could take now; counting stops once there are `enough`."""
        other = self._opposite(side)
        found = other.maker.leaves if other.reaches(other.maker.price, limit) else 0
        for order in reversed(other.orders):
            if found >= enough or not other.reaches(order.price, limit):
                break
            found += order.leaves
        return min(found, enough)

    def take(self, side: Side, number: int, quantity: int, limit: int | None) -> list[Fill]:
        """Match an incoming order against the other side, at the prices that stand there."""
        other, fills = self._opposite(side), []
        while quantity and (best := other.best()) and other.reaches(best.price, limit):
            filled = min(quantity, best.leaves)
            fills.append(Fill(best.number, number, filled, best.price))
            quantity -= filled
            self._reduce(other, best, filled)
        return fills

    def rest(self, side: Side, number: int, quantity: int, limit: int, stamp: int) -> None:
        """Stand in the book. The caller has matched the order first: it reaches nothing on the other side."""
        assert number not in self._by_number
        assert quantity > 0
        half, order = self._halves[side], Resting(number, limit, quantity, stamp)
        half.insert(order)
        self._by_number[number] = (half, order)

    def resize(self, number: int, leaves: int) -> None:
        """Change an order's open quantity; its place in the queue stays."""
        _, order = self._by_number[number]
        assert leaves > 0
        order.leaves = leaves

    def remove(self, number: int) -> None:
        half, order = self._by_number.pop(number)
        half.remove(order)

    def _opposite(self, side: Side) -> _Half:
        return self.asks if side == "BUY" else self.bids

    def _hit(self, half: _Half, taker: Resting, strictly: bool = False) -> list[Fill]:
        """Let `taker` (the MM, or a print) take the client orders of `half` that its price reaches."""
        fills = []
        while taker.leaves and half.orders:
            order = half.orders[-1]
            distance = half.sign * (order.price - taker.price)
            if distance < (1 if strictly else 0):
                break
            filled = min(taker.leaves, order.leaves)
            fills.append(Fill(order.number, taker.number, filled, order.price))
            taker.leaves -= filled
            self._reduce(half, order, filled)
        return fills

    def _reduce(self, half: _Half, order: Resting, filled: int) -> None:
        order.leaves -= filled
        if not order.leaves and order.number != MARKET_MAKER:
            assert half.orders[-1] is order, "only the first in the queue is filled"
            half.orders.pop()
            del self._by_number[order.number]


def _stand(maker: Resting, price: int, size: int, stamp: int) -> None:
    if price <= 0 or size <= 0:
        price = size = 0
    if price != maker.price or size > maker.leaves:
        maker.stamp = stamp
    maker.price, maker.leaves = price, size
