"""Which symbols can be followed here."""

from __future__ import annotations

from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.live.hub import Hub


class Traded:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._hub.quotes

    def known(self, symbols: list[str], field: str) -> list[str]:
        """The same symbols. Raises Refusal when one of them is not traded here, or nobody can say yet."""
        for symbol in symbols:
            if symbol not in self:
                # Before the hub is ready, what it does not know may exist all the same.
                if not self._hub.ready():
                    raise refusal(reasons.PRICES_NOT_READY, retry_after_s=1)
                raise refusal(reasons.SYMBOL_UNKNOWN, field, symbol=symbol)
        return symbols
