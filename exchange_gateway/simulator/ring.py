"""The market data feed without its sockets: the last ticks as ready frames, and readers that follow them.

A frame is encoded once and shared by all readers. Every frame has a place in the order of the feed: (session, number of
its last tick). A reader that asks for ticks that are no longer kept is told exactly which ones it missed. Single ticks
are found by their identity through an index that is bounded with the frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from exchange_gateway.simulator.kept import Kept, Resent
from infra.contracts import Instrument, MarketStatus, Tick, encode

SESSIONS_LISTED_MAX = 100

Place = tuple[int, int]  # (session, number of the last tick)


class Frame(NamedTuple):
    """`first` to `last` are the ticks in it; a frame without ticks has first = last + 1. `text` is what is sent,
    `whole` what it says when nothing misbehaves, `firsts` the first sequence number of each symbol in it."""

    session: int
    first: int
    last: int
    text: str
    whole: str = ""
    firsts: Mapping[str, int] = {}

    @property
    def place(self) -> Place:
        return self.session, self.last


@dataclass(slots=True)
class Session:
    """One session as the feed tells it. `symbols` holds each symbol's last sequence number, `statuses` the last word on
    each symbol that was halted."""

    session: int
    instruments: str
    opened: str
    closed: str | None = None
    ticks: int = 0
    symbols: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)


class Ring:
    """Frames of the last `ticks_max` ticks, numbered from 0 without end (`first_frame` to `next_frame`)."""

    def __init__(self, ticks_max: int) -> None:
        self._ticks_max = ticks_max
        self._ticks = 0
        self._frames: dict[int, Frame] = {}
        self._first = 0
        self._next = 0
        self._kept = Kept()
        self.sessions: dict[int, Session] = {}
        self.current: Session | None = None

    # -- writing -------------------------------------------------------------------------------------------------------

    def open(self, session: int, instruments: Sequence[Instrument], at_ns: int) -> None:
        listed = encode({"type": "instruments", "instruments": instruments}).decode()
        self.current = Session(session, listed, _status("open", session, at_ns))
        self.sessions[session] = self.current
        if len(self.sessions) > SESSIONS_LISTED_MAX:
            del self.sessions[next(iter(self.sessions))]
        self._add(Frame(session, 1, 0, listed))
        self._add(Frame(session, 1, 0, self.current.opened))

    def close(self, at_ns: int) -> None:
        current = self.current
        assert current is not None
        current.closed = _status("close", current.session, at_ns)
        self._add(Frame(current.session, current.ticks + 1, current.ticks, current.closed))

    def status(self, kind: Literal["halt", "resume"], symbol: str, at_ns: int) -> None:
        current = self.current
        assert current is not None
        text = current.statuses[symbol] = _status(kind, current.session, at_ns, symbol)
        self._add(Frame(current.session, current.ticks + 1, current.ticks, text))

    def add(self, ticks: Sequence[Tick], sent: Sequence[Tick] | None = None) -> None:
        """One frame of ticks. `sent` is what misbehaviour makes of it; the numbers and what is kept are those of
        `ticks`."""
        current = self.current
        assert current is not None
        first, current.ticks = current.ticks + 1, current.ticks + len(ticks)
        head = f'{{"type":"ticks","session":{current.session},"n":{current.ticks},"ticks":'
        whole = head + encode(ticks).decode() + "}"
        text = whole if sent is None else head + encode(sent).decode() + "}"
        self._add(Frame(current.session, first, current.ticks, text, whole, self._kept.add(ticks, self._next)))

    # -- reading -------------------------------------------------------------------------------------------------------

    def newest(self, symbol: str) -> list[Tick]:
        """The newest trade and the newest quote, oldest first, of the last session in which the symbol had a tick."""
        return self._kept.newest(symbol)

    def resend(self, session: int, symbol: str, first: int, last: int) -> Resent:
        """The ticks `first` to `last` of a symbol's session as far as they are kept, as they were on the feed."""
        return self._kept.resend(session, symbol, first, last, lambda number: self._frames[number].whole)

    @property
    def next_frame(self) -> int:
        return self._next

    @property
    def first_frame(self) -> int:
        return self._first

    def frame(self, number: int) -> Frame:
        return self._frames[number]

    def place_at(self, number: int) -> Place:
        """The place just before frame `number`, or the end of the feed."""
        frame = self._frames.get(number)
        if frame is not None:
            return frame.session, frame.first - 1
        return (self.current.session, self.current.ticks) if self.current else (0, 0)

    def find(self, place: Place) -> int:
        """The first frame with something after `place` in it."""
        low, high = self._first, self._next
        while low < high:
            middle = (low + high) // 2
            if self._frames[middle].place < place:
                low = middle + 1
            else:
                high = middle
        while low < self._next and (frame := self._frames[low]).place == place and frame.first <= frame.last:
            low += 1
        return low

    def lost(self, place: Place, upto: Place) -> list[str]:
        """Gap frames for the ticks between two places."""
        session, n = place
        if session == upto[0]:
            return [_gap(session, n + 1, upto[1])] if n < upto[1] else []
        known = self.sessions.get(session)
        gaps = (
            []
            if not session or (known and known.ticks <= n)
            else [_gap(session, n + 1, known.ticks if known else None)]
        )
        between = [s for s in self.sessions.values() if session < s.session < upto[0] and s.ticks]
        gaps += [_gap(s.session, 1, s.ticks) for s in between]
        return [*gaps, _gap(upto[0], 1, upto[1])] if upto[1] else gaps

    def _add(self, frame: Frame) -> None:
        self._frames[self._next] = frame
        self._next += 1
        self._ticks += frame.last - frame.first + 1
        while self._ticks > self._ticks_max and self._first < self._next - 1:
            gone = self._frames.pop(self._first)
            self._kept.drop(gone.firsts)
            self._ticks -= gone.last - gone.first + 1
            self._first += 1


class Reader:
    """One client's way along the ring. `place` is the last tick it was given."""

    def __init__(self, ring: Ring, session: int | None, after: int | None) -> None:
        self._ring = ring
        self._ready: deque[str] = deque()
        here = ring.place_at(ring.next_frame)
        if session is None and after is None:
            self.place, self._cursor = here, ring.next_frame
            self._introduce(here[0])
            return
        asked = (here[0] if session is None else session, after or 0)
        if asked > here:  # a session or a tick that never was: this venue has lost its memory, or another one is meant
            self._ready.append(_gap(asked[0], asked[1] + 1, None))
            self.place, self._cursor = here, ring.next_frame
            self._introduce(here[0])
            return
        self.place, self._cursor = asked, ring.find(asked)
        start = ring.place_at(self._cursor)
        if start < asked:  # the frame holds ticks on both sides of `after`
            start = asked
        self._introduce(start[0], resumed=True)
        self._skip_to(start)

    def next(self) -> str | None:
        """The next frame, or None when there is nothing new."""
        if self._ready:
            return self._ready.popleft()
        if self._cursor < self._ring.first_frame:
            self._fall_behind()
            if self._ready:
                return self._ready.popleft()
        if self._cursor >= self._ring.next_frame:
            return None
        frame = self._ring.frame(self._cursor)
        self._cursor += 1
        text = frame.text
        if frame.session == self.place[0] and frame.first <= self.place[1] < frame.last:
            text = _after(frame, self.place[1])
        self.place = frame.place
        return text

    def lag(self) -> int:
        """Frames not taken yet."""
        return self._ring.next_frame - self._cursor

    def lag_ticks(self) -> int:
        """Ticks not taken yet; what is no longer kept counts as everything that is."""
        current = self._ring.current
        if current is None:
            return 0
        if self.place[0] == current.session:
            return current.ticks - self.place[1]
        known = self._ring.sessions.get(self.place[0])
        return current.ticks + (known.ticks - self.place[1] if known else 0)

    def _fall_behind(self) -> None:
        self._cursor = self._ring.first_frame
        start = self._ring.place_at(self._cursor)
        changed = start[0] != self.place[0]
        self._skip_to(start)
        if changed:
            self._introduce(start[0], resumed=True)
        elif known := self._ring.sessions.get(start[0]):
            self._ready += known.statuses.values()  # a halt or a resumption may be among what is lost

    def _skip_to(self, start: Place) -> None:
        self._ready.extend(self._ring.lost(self.place, start))
        self.place = start

    def _introduce(self, session: int, resumed: bool = False) -> None:
        """What a client must know first: who is listed and whether the market is open, as of its place.

        One that resumes inside a session that has ended is told of the end when it gets there.
        """
        known = self._ring.sessions.get(session)
        if known is not None:
            self._ready += [known.instruments, known.closed if known.closed and not resumed else known.opened]
            self._ready += known.statuses.values()


def _status(kind: Literal["open", "close", "halt", "resume"], session: int, at_ns: int, symbol: str = "*") -> str:
    status = MarketStatus(kind=kind, session=session, at_ns=at_ns, symbol=symbol)
    return encode({"type": "status", "status": status}).decode()


def _gap(session: int, first: int, last: int | None) -> str:
    return encode({"type": "gap", "session": session, "from": first, "to": last}).decode()


def _after(frame: Frame, n: int) -> str:
    """A tick frame without its ticks up to `n`; none of the others is left out. Tick objects are flat, so `},{`
    separates them and nothing else."""
    head, _, rest = frame.whole.partition("[")
    kept = rest.split("},{", n - frame.first + 1)[-1]
    return f"{head}[{{{kept}"
