"""One-minute bars of a batch of trades. Pure; the store merges them into what it has."""

from __future__ import annotations

from infra.contracts import Trade
from price_service.domain.bars import MINUTE_NS, Bar


class Minutes:
    """Collects trades, in any order, into a bar per symbol and minute of event time."""

    def __init__(self) -> None:
        self._bars: dict[tuple[str, int], Bar] = {}

    def add(self, trade: Trade) -> None:
        start = trade.t - trade.t % MINUTE_NS
        bar = self._bars.get((trade.s, start))
        if bar is None:
            bar = self._bars[trade.s, start] = Bar(trade.s, start)
        bar.add(trade)

    def bars(self) -> list[Bar]:
        """In order of symbol and time, so that two workers lock rows in one order."""
        return [self._bars[key] for key in sorted(self._bars)]
