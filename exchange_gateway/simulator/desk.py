"""The one way into the venue: every input is decided, journaled and handed on, in this order, before it is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.journal import Kind, Line
from exchange_gateway.simulator.messages import (
    Cancel,
    NewOrder,
    Numbered,
    Replace,
    VenueError,
    order_number,
)
from exchange_gateway.simulator.venue import Venue
from infra.clock import Clock
from infra.contracts import Instrument, encode

T = TypeVar("T")
R = TypeVar("R", Cancel, Replace)

# Takes reports that are recorded. Never waits and never fails: the drop copy is what nobody may miss.
Notify = Callable[[Sequence[Numbered]], None]


class Keeper(Protocol):
    """Where the inputs are written down: the journal on disk, or its twin in memory."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Keep the lines, whole or not at all."""
        ...

    def rotate(self, venue: Venue, session: int, now_ns: int) -> int:
        """Begin a session. The drop-copy number up to which nothing is kept any more."""
        ...

    def move_aside(self, session: int) -> None:
        """What was kept so far no longer counts; it stays readable."""
        ...


class Desk:
    """`journal` is None for a venue without memory. After a failed write the venue refuses everything: what is in
    memory may differ from what is on disk, and only a restart makes them one again."""

    def __init__(self, venue: Venue, drop_copy: DropCopy, journal: Keeper | None, notify: Notify, clock: Clock) -> None:
        self.venue = venue
        self.drop_copy = drop_copy
        self._journal = journal
        self.notify = notify
        self._clock = clock
        self._failed: Exception | None = None

    # -- order entry: each returns the reports of the order that the request is about ---------------------------------

    def submit(self, orders: Iterable[NewOrder | VenueError]) -> list[list[bytes] | VenueError]:
        """Take new orders, one by one, with one write. An order that could not be read keeps its error."""
        self._check()
        if not self.venue.instruments:
            raise VenueError(503, "unavailable", "The first session has not opened yet.")
        now_ns, lines, made = self._clock.now_ns(), [], []
        answers: list[list[bytes] | VenueError] = []
        for terms in orders:
            try:
                if isinstance(terms, VenueError):
                    raise terms
                reports = self.venue.submit(terms, now_ns)
            except VenueError as error:
                answers.append(error)
                continue
            own = reports[0].report.exchange_order_id
            assert own is not None
            line = Line(kind="submit", at_ns=now_ns, session=self.venue.session, number=order_number(own), terms=terms)
            lines.append(_with(line, reports))
            made += reports
            answers.append(_own(reports))
        self._record(lines, made)
        return answers

    def cancel(self, orig_cl_ord_id: str, request: Cancel) -> list[bytes]:
        return self._amend("cancel", self.venue.cancel, orig_cl_ord_id, request)

    def replace(self, orig_cl_ord_id: str, request: Replace) -> list[bytes]:
        return self._amend("replace", self.venue.replace, orig_cl_ord_id, request)

    # -- the tape and the sessions ------------------------------------------------------------------------------------

    def market(self, reports: Sequence[Numbered], now_ns: int) -> None:
        """Record what a tick caused."""
        self._check()
        line = Line(kind="market", at_ns=now_ns, session=self.venue.session)
        self._record([_with(line, reports)], reports)

    def assign_session(self, session: int, now_ns: int) -> None:
        """Name the next session and begin its segment of the journal."""
        self._check()
        self.venue.assign_session(session)
        if self._journal is not None:
            self.drop_copy.forget(self._guard(lambda journal: journal.rotate(self.venue, session, now_ns)))

    def open(self, instruments: Mapping[str, Instrument], now_ns: int) -> None:
        self._session_line("open", self.venue.open(instruments, now_ns), now_ns)

    def close(self, now_ns: int) -> None:
        self._session_line("close", self.venue.close(now_ns), now_ns)

    def end_broken_session(self, now_ns: int) -> None:
        """After a restart: the session that was open ended with the process, and with it its DAY orders."""
        if reports := self.venue.expire_day_orders(now_ns):
            self._session_line("broken", reports, now_ns)

    def forget(self) -> None:
        """Begin anew without orders, reports and journal; only the session's number is known, as it never comes again.
        The next session is to be named before anything else."""
        self._check()
        session = self.venue.session
        if self._journal is not None:
            self._guard(lambda journal: journal.move_aside(session))
        self.venue, self.drop_copy = Venue(), DropCopy()
        self.venue.session = session

    # -- what should not happen ----------------------------------------------------------------------------------------

    def bust(self, exec_id: str) -> list[bytes]:
        return self._intervene("bust", {"exec_id": exec_id}, lambda now_ns: self.venue.bust(exec_id, now_ns))

    def correct(self, exec_id: str, quantity: int, micros: int) -> list[bytes]:
        request = {"exec_id": exec_id, "last_qty": quantity, "last_micros": micros}
        return self._intervene("correct", request, lambda now_ns: self.venue.correct(exec_id, quantity, micros, now_ns))

    def overfill(self, cl_ord_id: str, beyond: int, micros: int) -> list[bytes]:
        request = {"cl_ord_id": cl_ord_id, "beyond": beyond, "last_micros": micros}
        return self._intervene(
            "overfill", request, lambda now_ns: self.venue.overfill(cl_ord_id, beyond, micros, now_ns)
        )

    def stray(self, terms: NewOrder, micros: int) -> list[bytes]:
        """A fill for an order that was never sent."""
        return self._intervene("stray", None, lambda now_ns: self.venue.stray(terms, micros, now_ns), terms)

    def halt(self, symbol: str) -> None:
        self._check()
        self.venue.halt(symbol)
        self._session_line("halt", [], self._clock.now_ns(), {"symbol": symbol})

    def resume(self, symbol: str) -> bool:
        """False when there is nothing to resume: the halt ended with its session."""
        self._check()
        if not self.venue.resume(symbol):
            return False
        self._session_line("resume", [], self._clock.now_ns(), {"symbol": symbol})
        return True

    # -- inside --------------------------------------------------------------------------------------------------------

    def _amend(
        self,
        kind: Kind,
        decide: Callable[[str, R, int], list[Numbered]],
        orig_cl_ord_id: str,
        request: R,
    ) -> list[bytes]:
        self._check()
        now_ns = self._clock.now_ns()
        reports = decide(orig_cl_ord_id, request, now_ns)
        line = Line(kind=kind, at_ns=now_ns, session=self.venue.session, orig_cl_ord_id=orig_cl_ord_id, request=request)
        self._record([_with(line, reports)], reports)
        return _own(reports)

    def _intervene(
        self, kind: Kind, request: Any, decide: Callable[[int], list[Numbered]], terms: NewOrder | None = None
    ) -> list[bytes]:
        self._check()
        now_ns = self._clock.now_ns()
        reports = decide(now_ns)
        number = self.venue.last_number if terms is not None else None
        line = Line(kind=kind, at_ns=now_ns, session=self.venue.session, number=number, terms=terms, request=request)
        self._record([_with(line, reports)], reports)
        return _own(reports)

    def _session_line(self, kind: Kind, reports: list[Numbered], now_ns: int, request: Any = None) -> None:
        self._check()
        line = Line(kind=kind, at_ns=now_ns, session=self.venue.session, request=request)
        self._record([_with(line, reports)], reports)

    def _record(self, lines: Sequence[bytes], reports: Sequence[Numbered]) -> None:
        if self._journal is not None and lines:
            self._guard(lambda journal: journal.append(lines))
        self.drop_copy.add(reports)
        self.notify(reports)

    def _guard(self, use: Callable[[Keeper], T]) -> T:
        assert self._journal is not None
        try:
            return use(self._journal)
        except Exception as error:
            self._failed = error
            raise

    def _check(self) -> None:
        if self._failed is not None:
            raise VenueError(503, "unavailable", "The venue's journal failed; it must be restarted.")


def _with(line: Line, reports: Sequence[Numbered]) -> bytes:
    return encode(msgspec.structs.replace(line, reports=[msgspec.Raw(r.frame()) for r in reports]))


def _own(reports: Sequence[Numbered]) -> list[bytes]:
    """The reports of the order that was asked about; the first report is always one of them."""
    own = reports[0].report.exchange_order_id
    return [r.body for r in reports if r.report.exchange_order_id == own]
