"""Where each symbol's ticks are in the kept frames, and which of them are the newest.

The index has one entry per symbol and frame, and an entry goes with its frame, so it is bounded as the frames are. A
tick is found in a frame's text by its identity, which the encoder writes as neighbours: nothing is decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from infra.contracts import Tick, Trade, encode

_ANY_FRAME = 1 << 62


class Resent(NamedTuple):
    """Ticks as JSON objects in the bytes of the feed, and the ranges of numbers that are not kept."""

    ticks: list[str]
    missing: list[tuple[int, int]]


# Session, q and frame: a symbol's ticks from q on are in this frame. A plain tuple, as there is one per tick at worst.
Place = tuple[int, int, int]


class Kept:
    """`places` of a symbol ascend. The newest ticks outlive their frames: there is one of each kind per symbol."""

    def __init__(self) -> None:
        self._places: defaultdict[str, deque[Place]] = defaultdict(deque)
        self._trades: dict[str, Tick] = {}
        self._quotes: dict[str, Tick] = {}

    def add(self, ticks: Sequence[Tick], frame: int) -> Mapping[str, int]:
        """Ticks went out in this frame. Returns the first number of each symbol in it."""
        trades, quotes = self._trades, self._quotes
        firsts: dict[str, int] = {}
        for tick in ticks:
            symbol = tick.s
            (trades if type(tick) is Trade else quotes)[symbol] = tick
            if symbol not in firsts:
                firsts[symbol] = tick.q
        places, session = self._places, ticks[0].d if ticks else 0
        for symbol, q in firsts.items():
            places[symbol].append((session, q, frame))
        return firsts

    def drop(self, symbols: Mapping[str, int]) -> None:
        """The oldest frame, which holds ticks of these symbols, is gone."""
        places = self._places
        for symbol in symbols:
            of_symbol = places[symbol]
            of_symbol.popleft()
            if not of_symbol:
                del places[symbol]

    def newest(self, symbol: str) -> list[Tick]:
        found = [ticks[symbol] for ticks in (self._trades, self._quotes) if symbol in ticks]
        session = max((tick.d for tick in found), default=0)
        return sorted((tick for tick in found if tick.d == session), key=lambda tick: tick.q)

    def resend(self, session: int, symbol: str, first: int, last: int, text_of: Callable[[int], str]) -> Resent:
        ticks: list[str] = []
        missing: list[tuple[int, int]] = []
        name = encode(symbol).decode()
        text, at, frame = "", 0, -1
        for q, place in self._numbers(session, symbol, first, last):
            if place is not None and place[2] != frame:
                frame = place[2]
                text, at = text_of(frame), 0
            found = -1 if place is None else text.find(f'"s":{name},"d":{session},"q":{q},', at)
            if found >= 0:
                at = text.index("}", found) + 1
                ticks.append(text[text.rindex("{", 0, found) : at])
            elif missing and missing[-1][1] == q - 1:
                missing[-1] = (missing[-1][0], q)
            else:
                missing.append((q, q))
        return Resent(ticks, missing)

    def _numbers(self, session: int, symbol: str, first: int, last: int) -> Iterator[tuple[int, Place | None]]:
        """Each number, and the frame that it is in if it is kept."""
        places = self._places.get(symbol, deque())
        at = bisect_right(places, (session, first, _ANY_FRAME)) - 1
        newest = max((tick.q for tick in self.newest(symbol) if tick.d == session), default=_ANY_FRAME)
        for q in range(first, last + 1):
            while at + 1 < len(places) and places[at + 1] <= (session, q, _ANY_FRAME):
                at += 1
            known = at >= 0 and places[at][0] == session and q <= newest
            yield q, places[at] if known else None
