"""The venue's memory on disk: one line per input with everything it caused, written before it is answered.

A line is one atomic unit: a SIGKILL leaves whole lines and at most one torn last one, whose input was never answered
and so never happened. Nothing is synced to the disk: a killed process loses nothing, a power loss may lose the end.

One file (*segment*) per session. A new session's segment begins with what must outlive the dropped ones, so that the
folder stays bounded. Restoring is folding the lines, oldest segment first.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.messages import NewOrder, Numbered, Report
from exchange_gateway.simulator.order import Order
from exchange_gateway.simulator.venue import Venue
from infra.contracts import encode

FORMAT = 1
FORGOTTEN = "forgotten-"  # + the session in which the venue lost its memory: a folder of the segments until then

Kind = Literal[
    "submit", "carried", "cancel", "replace", "market", "open", "close", "broken",
    "bust", "correct", "overfill", "stray", "halt", "resume",
]  # fmt: skip


class JournalError(Exception):
    """The journal cannot be used; the text says which file and what to do."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a segment: where the numbers stood when its session was named."""

    format: int
    session: int
    last_n: int
    last_number: int


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input and its reports (`{"n","report"}` each, as on the drop copy).

    `submit`, `stray` and `carried` enter an order: `number` and `terms`. A carried order comes with all its reports so
    far.
    """

    kind: Kind
    at_ns: int
    session: int
    number: int | None = None
    terms: NewOrder | None = None
    orig_cl_ord_id: str | None = None
    request: Any = None  # what was asked for, kept for people who read the journal
    reports: list[msgspec.Raw] = []


class _Reported(msgspec.Struct, frozen=True):
    n: int
    report: msgspec.Raw


@dataclass(slots=True)
class Segment:
    path: Path
    head: Head


@dataclass(slots=True)
class Restored:
    """What reading the folder found: heads for the numbers, and reports whose order a later line must carry."""

    session: int = 0
    last_n: int = 0
    last_number: int = 0
    orphans: set[str] = field(default_factory=set)


class Journal:
    """Append-only segments in one folder, which belongs to one process at a time.

    `sessions_kept` segments are kept whole, and every one that is younger than `age_min_s`.
    """

    def __init__(self, folder: Path, sessions_kept: int, age_min_s: int) -> None:
        self._folder = folder
        self._sessions_kept = max(1, sessions_kept)
        self._age_min_s = age_min_s
        self._segments: list[Segment] = []
        self._file: int | None = None
        self._lock: int | None = None

    def restore(self, venue: Venue, drop_copy: DropCopy) -> None:
        """Open the folder and bring `venue` and `drop_copy` to where they were."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        found = Restored(session=self._finish_moving_aside())
        for path in segments(self._folder):
            self._restore_segment(path, venue, drop_copy, found)
        if found.orphans:
            raise JournalError(f"{self._folder}: orders {sorted(found.orphans)[:5]} have reports but no beginning")
        venue.settle(found.session, found.last_n, found.last_number)
        if self._segments:
            self._append_to(self._segments[-1].path)

    def append(self, lines: Sequence[bytes]) -> None:
        """One write for all lines; they are in the kernel's hands when this returns."""
        assert self._file is not None, "a session must be named first"
        data = b"".join(line + b"\n" for line in lines)
        if os.write(self._file, data) != len(data):
            raise JournalError(f"{self._folder}: the disk is full")

    def rotate(self, venue: Venue, session: int, now_ns: int) -> int:
        """Begin the segment of a new session and drop the oldest ones.

        Returns the drop-copy number up to which nothing is kept.
        """
        kept = self._kept(now_ns // 1_000_000_000, session)
        dropped = self._segments[: len(self._segments) - len(kept)]
        upto_n = kept[0].head.last_n if kept else venue.last_n
        carried = venue.forget(upto_n) if dropped else []
        head = Head(format=FORMAT, session=session, last_n=venue.last_n, last_number=venue.last_number)
        path = self._folder / f"{session}.jsonl"
        self._append_to(path)
        self.append([encode(head), *(carried_line(order, now_ns) for order in carried)])
        self._segments = [*kept, Segment(path, head)]
        for segment in dropped:
            segment.path.unlink()
        return upto_n if dropped else 0

    def move_aside(self, session: int) -> None:
        """Begin without memory; what was kept goes to a folder of its own, for those who check what really happened."""
        aside = self._folder / f"{FORGOTTEN}{session}"
        aside.mkdir()
        for path in segments(self._folder):
            path.rename(aside / path.name)
        self._segments = []
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _finish_moving_aside(self) -> int:
        """After a kill in the middle of it. Returns the last session that was forgotten, or 0."""
        aside = max(forgotten(self._folder), key=_session_of, default=None)
        if aside is None:
            return 0
        for path in segments(self._folder):
            if int(path.stem) <= _session_of(aside):
                path.rename(aside / path.name)
        return _session_of(aside)

    def close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _kept(self, now_s: int, session: int) -> list[Segment]:
        """The newest segments; with the one about to begin they are `sessions_kept`, or more while young.

        A segment's youth ends with its session, which is when the next one begins.
        """
        ends = [s.head.session for s in self._segments[1:]] + [session]
        first = max(0, len(self._segments) + 1 - self._sessions_kept)
        while first > 0 and now_s - ends[first - 1] < self._age_min_s:
            first -= 1
        return self._segments[first:]

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(f"{self._folder} is in use by another venue; stop it or set XGW_RUN_DIR") from error

    def _append_to(self, path: Path) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _restore_segment(self, path: Path, venue: Venue, drop_copy: DropCopy, found: Restored) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)
        lines = iter(data[:whole].split(b"\n")[:-1])
        try:
            head = next(lines, None)
            if head is None:  # killed while the segment was begun; nothing was dropped for it yet
                path.unlink()
                return
            segment = Segment(path, msgspec.json.decode(head, type=Head))
            if segment.head.format != FORMAT:
                raise JournalError(f"{path}: format {segment.head.format} is not ours")
            if not self._segments:
                drop_copy.begin_after(segment.head.last_n)
            for line in lines:
                restore_line(msgspec.json.decode(line, type=Line), venue, drop_copy, found)
        except msgspec.DecodeError as error:
            raise JournalError(f"{path} is damaged ({error}); move the folder away to start without memory") from error
        self._segments.append(segment)
        found.session = max(found.session, segment.head.session)
        found.last_n = max(found.last_n, segment.head.last_n)
        found.last_number = max(found.last_number, segment.head.last_number)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"), key=lambda path: int(path.stem))


def forgotten(folder: Path) -> list[Path]:
    """The folders of lives that the venue forgot, oldest first."""
    return sorted(folder.glob(f"{FORGOTTEN}*"), key=_session_of)


def _session_of(aside: Path) -> int:
    return int(aside.name.removeprefix(FORGOTTEN))


def carried_line(order: Order, now_ns: int) -> bytes:
    reports = [msgspec.Raw(b'{"n":%d,"report":%b}' % report) for report in order.reports]
    line = Line(
        kind="carried",
        at_ns=now_ns,
        session=order.session,
        number=order.number,
        terms=order.terms,
        reports=reports,
    )
    return encode(line)


def restore_line(line: Line, venue: Venue, drop_copy: DropCopy, found: Restored) -> None:
    if line.kind == "carried":
        found.orphans.discard(f"X{line.number}")
    if line.terms is not None and line.number is not None:
        fresh = venue.enter_again(line.number, line.terms, line.session)
        if not fresh:
            return
    for numbered in numbered_of(line):
        if numbered.n > drop_copy.last_n:
            drop_copy.add([numbered])
        if not venue.absorb_again(numbered):
            found.orphans.add(str(numbered.report.exchange_order_id))


def numbered_of(line: Line) -> Iterator[Numbered]:
    for raw in line.reports:
        reported = msgspec.json.decode(raw, type=_Reported)
        body = bytes(reported.report)
        yield Numbered(reported.n, msgspec.json.decode(body, type=Report), body)
