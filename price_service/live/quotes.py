"""The table of latest quotes that a hub keeps: days, listings, and what has changed since it was asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infra.contracts import Instrument, MarketStatus, Tick
from price_service.domain.days import Day
from price_service.domain.listings import Listings
from price_service.domain.seen import Seen
from price_service.live.cadence import Cadence
from price_service.live.frames import quote_json

STALE_AFTER_MAX_MS = 300_000


class _Row:
    """What is kept of a symbol beside its listing."""

    __slots__ = ("cadence", "day", "is_stale")

    def __init__(self, day: Day, cadence: Cadence) -> None:
        self.day = day
        self.cadence = cadence
        self.is_stale = False


class QuoteTable:
    """One quote per known symbol: listed, or ticked. A quote of an open session is stale once it is older, on receive
    time, than its symbol's cadence allows: `stale_after_ms` at least, `stale_after_max_ms` at most."""

    def __init__(self, stale_after_ms: int, stale_after_max_ms: int = STALE_AFTER_MAX_MS) -> None:
        self._stale_after_ms = stale_after_ms
        self._stale_after_max_ms = stale_after_max_ms
        self._rows: dict[str, _Row] = {}
        self._listings = Listings()
        self._changed: set[str] = set()
        self._session = 0
        self._now_ms = 0
        self._current: Sequence[str] | None = None
        self.quotes: dict[str, bytes] = {}

    def load(self, days: Iterable[Day]) -> None:
        """Start from a snapshot."""
        for day in days:
            held = self._rows.get(day.symbol)
            if held is None or held.day.session < day.session:
                row = self._begin(day)
                # A session's number is its start in Unix seconds, so the day tells how often its symbol ticks.
                row.cadence.guess(day.seen.newest, day.session * 1000, day.received_ms)
                self._changed.add(day.symbol)

    def tick(self, tick: Tick, partition: int, received_ms: int) -> bool:
        """False when it changed nothing: taken before, or of an earlier session than the one shown."""
        row = self._rows.get(tick.s)
        if row is None or row.day.session < tick.d:
            row = self._begin(Day(tick.s, tick.d, partition))
        day = row.day
        if day.session != tick.d or not day.apply(tick, received_ms):
            return False
        if received_ms >= row.cadence.due_ms:
            row.cadence.arrived(received_ms)
        row.is_stale = False
        self._changed.add(tick.s)
        return True

    def listed(self, instrument: Instrument) -> None:
        if self._listings.keep(instrument):
            self._current = None
            self._changed.add(instrument.symbol)

    def status(self, status: MarketStatus) -> None:
        self._listings.status(status)
        if status.kind == "open":
            self._newer(status.session)

    def age(self, now_ms: int) -> None:
        """Mark what has become stale. Nothing is stale while no session is open."""
        self._now_ms = now_ms
        is_open = self.is_open
        for symbol, row in self._rows.items():
            stale = is_open and now_ms - row.day.received_ms > row.cadence.stale_after_ms
            if stale != row.is_stale:
                row.is_stale = stale
                self._changed.add(symbol)

    def changed(self) -> set[str]:
        """The symbols whose quote has changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def quote(self, symbol: str) -> bytes:
        """The Quote JSON of a known symbol, made anew and kept in `quotes`; if stale, with its age at the last look."""
        made = self.quotes[symbol] = self._made(symbol, self._now_ms)
        return made

    def aged(self, symbol: str, now_ms: int) -> tuple[bytes, int]:
        """The quote as last made, with its age of now when it is stale; and until when it stays like that, 0 for ever
        (until it changes). For a symbol in `quotes`."""
        row = self._rows.get(symbol)
        if row is None or not row.is_stale:
            return self.quotes[symbol], 0
        now_ms = max(now_ms, row.day.received_ms)
        return self._made(symbol, now_ms), now_ms + 1000 - (now_ms - row.day.received_ms) % 1000

    @property
    def is_open(self) -> bool:
        return self._listings.open_session is not None

    def is_wanting(self, symbol: str) -> bool:
        """Might the venue know something newer: it is stale, or was never heard of?"""
        row = self._rows.get(symbol)
        return row is None or row.is_stale

    def has(self, symbol: str, session: int, q: int) -> bool:
        """Was this tick taken, or is it of a session that is over?"""
        row = self._rows.get(symbol)
        return row is not None and (row.day.session, row.day.seen.newest) >= (session, q)

    def seen(self, symbol: str) -> tuple[int, Seen]:
        """The session of a symbol's newest tick, and the numbers taken of it; (0, none) before the first."""
        row = self._rows.get(symbol)
        return (0, Seen()) if row is None else (row.day.session, row.day.seen)

    def current(self) -> Sequence[str]:
        """The symbols of the newest session, listed in it or ticked in it, in alphabetical order. An earlier tape's are
        answered by name only."""
        if self._current is None:
            session, rows, listed = self._session, self._rows, self._listings.instruments
            ticked = {symbol for symbol, row in rows.items() if row.day.session >= session}
            self._current = sorted(ticked.union(s for s, instrument in listed.items() if instrument.session >= session))
        return self._current

    def received_ms(self, symbol: str) -> int:
        """When our house took the symbol's newest tick, Unix milliseconds; 0 before the first."""
        row = self._rows.get(symbol)
        return row.day.received_ms if row else 0

    def _begin(self, day: Day) -> _Row:
        """A symbol's first day, or its next."""
        row = self._rows.get(day.symbol)
        if row is None:
            row = self._rows[day.symbol] = _Row(day, Cadence(self._stale_after_ms, self._stale_after_max_ms))
        row.day = day
        row.cadence.begin()
        self._current = None
        self._newer(day.session)
        return row

    def _newer(self, session: int) -> None:
        if session > self._session:
            self._session = session
            self._current = None

    def _made(self, symbol: str, now_ms: int) -> bytes:
        row, instrument = self._rows.get(symbol), self._listings.instruments.get(symbol)
        name = instrument.name if instrument else symbol
        if row is None:
            return quote_json(Day(symbol, 0, 0), name, instrument.previous_close_micros if instrument else 0)
        day = row.day
        age_s = max(now_ms - day.received_ms, 0) // 1000 if row.is_stale else None
        return quote_json(day, name, self._listings.previous_close(symbol, day.session), age_s)
