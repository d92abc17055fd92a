"""The top of every book for those who asked for depth: whole books, conflated, at the reader's pace.

The tape knows only the best bid and ask, so the market maker's further levels are made from its quote: level k (from 1)
stands k ticks behind the best price with k + 1 times its size, where nothing can cross. They are shown, not traded: an
order that takes more than the best price has gets what clients offer behind it and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from exchange_gateway.simulator.book import Book, Resting
from infra.clock import Clock
from infra.contracts import Depth

LEVELS_MAX = 10
BOOKS_PER_FRAME = 100
# Books may be lost on their way; so every one comes again in a while, also of a symbol that rests.
REFRESH_S = 30.0

Level = tuple[int, int]  # price in micros, shares


def levels(book: Book, tick_micros: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Bids and asks, best first: what rests of clients' orders and the market maker, summed per price."""
    bids = _summed(book.resting("BUY"), book.bids.maker, book.asks.maker, -tick_micros)
    asks = _summed(book.resting("SELL"), book.asks.maker, book.bids.maker, tick_micros)
    return tuple(sorted(bids.items(), reverse=True)[:LEVELS_MAX]), tuple(sorted(asks.items())[:LEVELS_MAX])


def _summed(resting: Iterable[Resting], maker: Resting, opposite: Resting, step_micros: int) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for order in resting:  # the best first
        if order.price not in sizes and len(sizes) == LEVELS_MAX:
            break
        sizes[order.price] = sizes.get(order.price, 0) + order.leaves
    for k in range(LEVELS_MAX if maker.leaves else 0):
        price = maker.price + k * step_micros
        # The tape's quote may cross itself; what is made from it does not.
        crosses = opposite.leaves and (opposite.price - price) * step_micros >= 0
        if price > 0 and not (k and crosses):
            sizes[price] = sizes.get(price, 0) + (k + 1) * maker.leaves
    return sizes


class DepthReader:
    """One client's symbols whose books moved since it last took them, in the order in which they moved."""

    def __init__(self, depths: Depths) -> None:
        self._depths = depths
        self._refresh_s = 0.0
        self.waiting: dict[str, None] = {}

    def take(self) -> Iterator[list[Depth]]:
        """The books of the symbols that moved, as they are now, a few at a time; at first and once in a while all."""
        now_s = self._depths.clock.monotonic_s()
        if now_s >= self._refresh_s:
            self._refresh_s = now_s + REFRESH_S
            self.waiting.update(dict.fromkeys(self._depths.symbols))
        moved, self.waiting = list(self.waiting), {}
        for start in range(0, len(moved), BOOKS_PER_FRAME):
            yield [self._depths.book(symbol) for symbol in moved[start : start + BOOKS_PER_FRAME]]


class Depths:
    """Who reads depth, and how to make a book. Costs nothing while nobody reads."""

    def __init__(self, book_of: Callable[[str], Book], tick_micros: int, clock: Clock) -> None:
        self._book_of = book_of
        self._tick_micros = tick_micros
        self.clock = clock
        self.symbols: Collection[str] = ()
        self._readers: set[DepthReader] = set()
        self._session = 0
        self._numbers: dict[str, int] = {}

    @property
    def is_read(self) -> bool:
        return bool(self._readers)

    def begin(self, session: int, symbols: Collection[str]) -> None:
        """A session opens: books are numbered anew."""
        self._session, self.symbols, self._numbers = session, symbols, {}
        self.all_moved()

    def all_moved(self) -> None:
        self.moved(self.symbols)

    def moved(self, symbols: Iterable[str]) -> None:
        """The books of these symbols may have changed."""
        if self._readers:
            told = dict.fromkeys(symbols)
            for reader in self._readers:
                reader.waiting.update(told)

    def book(self, symbol: str) -> Depth:
        n = self._numbers[symbol] = self._numbers.get(symbol, 0) + 1
        bids, asks = levels(self._book_of(symbol), self._tick_micros)
        return Depth(symbol, self._session, n, self.clock.now_ns(), bids, asks)

    def join(self) -> DepthReader:
        reader = DepthReader(self)
        self._readers.add(reader)
        return reader

    def leave(self, reader: DepthReader) -> None:
        self._readers.discard(reader)
