"""The table of latest quotes that a hub keeps: days, listings, and what has changed since it was asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from infra.contracts import Instrument, MarketStatus, Tick
from price_service.domain.days import Day
from price_service.domain.listings import Listings
from price_service.live.frames import quote_json


class QuoteTable:
    """One quote per known symbol: listed, or ticked. `stale_after_ms` is measured on receive time."""

    def __init__(self, stale_after_ms: int) -> None:
        self._stale_after_ms = stale_after_ms
        self._days: dict[str, Day] = {}
        self._listings = Listings()
        self._stale: set[str] = set()
        self._changed: set[str] = set()

    def load(self, days: Iterable[Day]) -> None:
        """Start from a snapshot."""
        for day in days:
            held = self._days.get(day.symbol)
            if held is None or held.session < day.session:
                self._days[day.symbol] = day
                self._changed.add(day.symbol)

    def tick(self, tick: Tick, partition: int, received_ms: int) -> bool:
        """False when it changed nothing: taken before, or of an earlier session than the one shown."""
        day = self._days.get(tick.s)
        if day is None or day.session < tick.d:
            day = self._days[tick.s] = Day(tick.s, tick.d, partition)
        if day.session != tick.d or not day.apply(tick, received_ms):
            return False
        self._stale.discard(tick.s)
        self._changed.add(tick.s)
        return True

    def listed(self, instrument: Instrument) -> None:
        if self._listings.keep(instrument):
            self._changed.add(instrument.symbol)

    def status(self, status: MarketStatus) -> None:
        self._listings.status(status)

    def age(self, now_ms: int) -> None:
        """Mark what has become stale. Nothing is stale while no session is open."""
        is_open = self._listings.open_session is not None
        for symbol, day in self._days.items():
            stale = is_open and now_ms - day.received_ms > self._stale_after_ms
            if stale != (symbol in self._stale):
                (self._stale.add if stale else self._stale.discard)(symbol)
                self._changed.add(symbol)

    def changed(self) -> set[str]:
        """The symbols whose quote has changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def quote(self, symbol: str) -> bytes:
        """The Quote JSON of a known symbol."""
        day, instrument = self._days.get(symbol), self._listings.instruments.get(symbol)
        name = instrument.name if instrument else symbol
        previous = self._listings.previous_close(symbol, day.session) if day else 0
        if day is None and instrument is not None:
            previous = instrument.previous_close_micros
        return quote_json(day or Day(symbol, 0, 0), name, previous, symbol in self._stale)

    def received_ms(self, symbol: str) -> int:
        """When our house took the symbol's newest tick, Unix milliseconds; 0 before the first."""
        day = self._days.get(symbol)
        return day.received_ms if day else 0
