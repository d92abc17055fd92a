"""Latest quotes over HTTP: of one symbol, of some, of all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import ceil

from infra.clock import NS_PER_MS, Clock
from infra.direct import Answer, Prepared
from infra.principal import Principal
from infra.rate import Rate
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of, symbols_of
from price_service.live.fetching import Fetches
from price_service.live.latest import Latest, prepared
from price_service.live.quotes import QuoteTable

PARAMETERS = ("symbol", "symbols")


class Quotes:
    """The ordinary way; `latest` is the quick one, for single symbols, with the same answers."""

    def __init__(
        self,
        table: QuoteTable,
        is_ready: Callable[[], bool],
        fetches: Fetches,
        rate: Rate,
        clock: Clock,
        symbols_max: int,
    ) -> None:
        self.latest = Latest(table, fetches, rate, clock)
        self.fetches = fetches
        self.table = table
        self._is_ready = is_ready
        self._rate = rate
        self._clock = clock
        self._symbols_max = symbols_max

    async def answer(self, asker: Principal, wanted: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """`wanted`: the parameters, of PARAMETERS; `headers` have lower-case names. Raises Refusal."""
        if (seconds := self._rate.take(asker.subject, self._clock.monotonic_s())) > 0:
            raise refusal(reasons.READS_PER_SECOND, retry_after_s=ceil(seconds))
        versions = headers.get("if-none-match")
        if "symbol" in wanted and "symbols" in wanted:
            raise refusal(reasons.SYMBOLS_AMBIGUOUS, "symbols")
        if "symbol" in wanted:
            symbol = symbol_of(wanted["symbol"], "symbol")
            await self._found([symbol], "symbol")
            return self.latest.of(symbol).to(versions)
        if "symbols" in wanted:
            listed: Collection[str] = symbols_of(wanted["symbols"], "symbols", self._symbols_max)
            await self._found(listed, "symbols")
        else:
            self._require_ready()
            listed = self.table.current()
        return self._together(listed).to(versions)

    def _together(self, symbols: Collection[str]) -> Prepared:
        now_ms = self._clock.now_ns() // NS_PER_MS
        quotes = self.table.quotes
        # What was listed a moment ago has its quote with the next flush.
        found = [self.table.aged(symbol, now_ms)[0] for symbol in symbols if symbol in quotes]
        return prepared(b'{"quotes":[' + b",".join(found) + b"]}")

    async def _found(self, symbols: Collection[str], field: str) -> None:
        """What is stale or missing is asked for once. Raises Refusal for what is not known after that."""
        known = self.table.quotes
        if any(symbol not in known for symbol in symbols):
            self._require_ready()
        await self.fetches.freshen([symbol for symbol in symbols if self.table.is_wanting(symbol)])
        for symbol in symbols:
            if symbol not in known:
                raise refusal(reasons.SYMBOL_UNKNOWN, field, symbol=symbol)

    def _require_ready(self) -> None:
        """Before the hub is ready, what it does not know may exist all the same."""
        if not self._is_ready():
            raise refusal(reasons.PRICES_NOT_READY, retry_after_s=1)
