"""Answers about single symbols, put together when first asked for and kept while the quote stays the same.

Writing stays cheap: nothing here is told of a change. The quote that an answer was made of is looked at again each
time, and a new quote is a new object.
"""

from __future__ import annotations

from hashlib import blake2b

from infra.clock import NS_PER_MS, Clock
from infra.direct import Prepared
from infra.principal import Principal
from infra.rate import Rate
from price_service.live.fetching import Fetches
from price_service.live.quotes import QuoteTable

# May be kept by the client and has to be asked for anew each time, which costs a 304. Not for shared caches (RFC 9111
# §3.5): who may read is decided here.
CACHE_CONTROL = "private, no-cache"
ROUTE = ("GET", "/stockPrices")


def prepared(body: bytes) -> Prepared:
    """The ETag is strong: equal tags are equal bytes."""
    return Prepared(body, f'"{blake2b(body, digest_size=12).hexdigest()}"', CACHE_CONTROL)


class _Kept:
    """`quote` is what `answer` was made of; `until_ms` when its age will be another, 0 for never. `wanting` when the
    venue may know something newer."""

    __slots__ = ("answer", "quote", "symbol", "until_ms", "wanting")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.quote = b""
        self.until_ms = 0
        self.wanting = False
        self.answer: Prepared


class Latest:
    """The quick way of `GET /stockPrices?symbol=` (`infra.direct.Quick`), and where the ordinary way has its from."""

    route = ROUTE
    target = b"/stockPrices?symbol="

    def __init__(self, table: QuoteTable, fetches: Fetches, rate: Rate, clock: Clock) -> None:
        self._quotes = table.quotes
        self._table = table
        self._fetches = fetches
        self._take = rate.take
        self._clock = clock
        # By the name as it stands in a request: other ways to write it are read by the ordinary way.
        self._kept: dict[bytes, _Kept] = {}

    def ready(self, asker: Principal, name: bytes, now_s: float) -> Prepared | None:
        kept = self._kept.get(name)
        if kept is None and (kept := self._keep(name)) is None:
            return None
        if self._quotes[kept.symbol] is not kept.quote or kept.until_ms:
            self._renew(kept)
        # Waiting for the venue is for the ordinary way. Where it was asked lately there is nothing to wait for.
        if kept.wanting and self._fetches.worth_waiting(kept.symbol):
            return None
        return None if self._take(asker.subject, now_s) else kept.answer

    def of(self, symbol: str) -> Prepared:
        """The same, not counted, for a symbol in the table's quotes."""
        kept = self._kept.get(symbol.encode()) or self._keep(symbol.encode())
        assert kept is not None
        self._renew(kept)
        return kept.answer

    def _keep(self, name: bytes) -> _Kept | None:
        symbol = name.decode("latin-1")
        if symbol not in self._quotes:
            return None
        kept = self._kept[name] = _Kept(symbol)
        return kept

    def _renew(self, kept: _Kept) -> None:
        quote, now_ms = self._quotes[kept.symbol], self._clock.now_ns() // NS_PER_MS
        if quote is kept.quote and (not kept.until_ms or now_ms < kept.until_ms):
            return
        body, kept.until_ms = self._table.aged(kept.symbol, now_ms)
        kept.quote, kept.answer = quote, prepared(body)
        kept.wanting = self._table.is_wanting(kept.symbol)
