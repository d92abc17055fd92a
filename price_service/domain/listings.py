"""What the venue lists, and whether it is open: folded from the compacted topics `instruments` and `market-status`."""

from __future__ import annotations

from infra.contracts import Instrument, MarketStatus

WHOLE_MARKET = "*"
# A quote is of the last session until the first tick of the next, which is listed before.
SESSIONS_HELD = 2


class Listings:
    """`open_session` is None while no session is known to be open."""

    def __init__(self) -> None:
        self.instruments: dict[str, Instrument] = {}
        self._closes: dict[str, dict[int, int]] = {}
        self.open_session: int | None = None
        self._status_session = 0

    def keep(self, instrument: Instrument) -> bool:
        """Take a record; False when a later session's is known already."""
        held = self.instruments.get(instrument.symbol)
        if held is not None and held.session > instrument.session:
            return False
        self.instruments[instrument.symbol] = instrument
        closes = self._closes.setdefault(instrument.symbol, {})
        closes[instrument.session] = instrument.previous_close_micros
        for session in sorted(closes)[:-SESSIONS_HELD]:
            del closes[session]
        return True

    def status(self, status: MarketStatus) -> None:
        if status.symbol != WHOLE_MARKET or status.session < self._status_session:
            return
        self._status_session = status.session
        if status.kind == "open":
            self.open_session = status.session
        elif status.kind == "close":
            self.open_session = None

    def previous_close(self, symbol: str, session: int) -> int:
        """Micros; 0 when it is not known for this session."""
        return self._closes.get(symbol, {}).get(session, 0)
