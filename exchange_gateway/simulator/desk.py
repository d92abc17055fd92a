"""The one way into the venue: every input is decided, journaled and handed on, in this order, before it is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.journal import Journal, Line
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


class Desk:
    """`journal` is None for a venue without memory. After a failed write the venue refuses everything: what is in
    memory may differ from what is on disk, and only a restart makes them one again."""

    def __init__(
        self, venue: Venue, drop_copy: DropCopy, journal: Journal | None, notify: Notify, clock: Clock
    ) -> None:
        self.venue = venue
        self.drop_copy = drop_copy
        self._journal = journal
        self._notify = notify
        self._clock = clock
        self._failed: Exception | None = None

    # -- order entry: each returns the reports of the order that the request is about ---------------------------------

    def submit(self, orders: Iterable[NewOrder | VenueError]) -> list[list[bytes] | VenueError]:
        """Take new orders, one by one, with one write. An order that could not be read keeps its error."""
        self._check()
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

    # -- inside --------------------------------------------------------------------------------------------------------

    def _amend(
        self,
        kind: Literal["cancel", "replace"],
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

    def _session_line(self, kind: Literal["open", "close", "broken"], reports: list[Numbered], now_ns: int) -> None:
        self._check()
        line = Line(kind=kind, at_ns=now_ns, session=self.venue.session)
        self._record([_with(line, reports)], reports)

    def _record(self, lines: Sequence[bytes], reports: Sequence[Numbered]) -> None:
        if self._journal is not None and lines:
            self._guard(lambda journal: journal.append(lines))
        self.drop_copy.add(reports)
        self._notify(reports)

    def _guard(self, use: Callable[[Journal], T]) -> T:
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
