"""The venue's drop copy (all reports, numbered) onto `order-status`: the source that finds what an answer or a webhook
lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
import structlog

from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.stream import Hole, Taken
from exchange_gateway.venue import VenueReport
from infra.contracts import Malformed, decode

log = structlog.get_logger(__name__)


class DropCopySource(Protocol):
    """Where the drop copy comes from: a socket, or the simulator in the same process."""

    def frames(self, after: int) -> AsyncIterator[bytes]:
        """One connection: the reports after number `after`, then live ones. Raises SourceLost."""
        ...


class _Range(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    first: int
    last: int


class _Frame(msgspec.Struct, frozen=True):
    """A report and its number, or the numbers of reports that are no longer kept."""

    n: int = 0
    report: msgspec.Raw = msgspec.Raw()
    gap: _Range | None = None


class _Named(msgspec.Struct, frozen=True):
    cl_ord_id: str = ""


class DropCopy:
    """A NumberedStream. The position is the number of the last report; before the first one it is 0."""

    def __init__(self, source: DropCopySource, publisher: StatusPublisher) -> None:
        self._source = source
        self._publisher = publisher
        self._last = 0
        self._first_frame = True

    def frames(self, position: str | None) -> AsyncIterator[bytes]:
        self._last = int(position or 0)
        self._first_frame = True
        return self._source.frames(self._last)

    def take(self, frame: bytes) -> Taken | None:
        try:
            numbered: _Frame = decode(_Frame, frame)
        except Malformed as error:
            log.error("drop_copy_frame_unreadable", error=str(error), frame=frame[:200])
            return None
        if numbered.gap is not None:
            return self._gap(numbered.gap)
        if not numbered.n or not numbered.report:
            # What cannot be placed is passed; the next number shows the hole.
            log.error("drop_copy_frame_unreadable", frame=frame[:200])
            return None
        self._check_joined(numbered.n)
        value = bytes(numbered.report)
        try:
            done = self._publisher.report(decode(VenueReport, value), "drop_copy")
        except Malformed as error:
            log.error("drop_copy_report_unreadable", n=numbered.n, error=str(error), report=value[:200])
            done = self._publisher.unreadable(value, _name(value), numbered.n)
        self._last = numbered.n
        return Taken(str(numbered.n), [done])

    def _gap(self, gap: _Range) -> Taken:
        log.error("drop_copy_gap", first=gap.first, last=gap.last)
        self._last = gap.last
        return Taken(str(gap.last), [])

    def _check_joined(self, n: int) -> None:
        """A hole within a connection is asked for again. In the first report of an answer it means that the venue has
        nothing better: it is passed, and said; reconciliation finds what it held."""
        first, self._first_frame = self._first_frame, False
        if n == self._last + 1:
            return
        if not first:
            raise Hole(f"{n} came after {self._last}")
        log.error("drop_copy_gap", first=self._last + 1, last=n - 1)


def _name(value: bytes) -> str:
    try:
        return decode(_Named, value).cl_ord_id
    except Malformed:
        return ""
