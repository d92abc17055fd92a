"""What is missing, since when, and what to ask for now. Pure: the time is an argument.

Late ticks close most holes within moments, so nothing young is asked for. Missing numbers are watched in blocks of as
many as one request may name: several holes of a block are one request, and what comes twice is dropped as always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from price_service.domain.days import DayKey
from price_service.domain.holes import Runs, both, in_blocks, joined, size, without
from price_service.gaps.ports import Ask

# Numbers in one request at most (docs/venue-api.md), and how many such blocks below a day's newest number are watched:
# no venue keeps more of one symbol, and one absurd number must not make a million requests.
BLOCK = 1000
BLOCKS_MAX = 100
# Pause after a request; it doubles with each further one for the same block.
PAUSE_S_FIRST = 2.0
PAUSE_S_MAX = 300.0
# After so many answers that should have closed a hole it is left: nobody who stores these ticks is here any more.
ANSWERS_MAX = 8
SHOWN_MAX = 1000

End = Literal["lost", "stuck"]


@dataclass(slots=True)
class Watch:
    """The missing numbers of one block that are hoped for. `next_s` is when they may be asked for (again)."""

    runs: Runs
    since_s: float
    next_s: float
    asks: int = 0
    answers: int = 0


@dataclass(slots=True)
class DayGaps:
    """One symbol's session. `ended` holds what is asked for no more: lost at the venue, or stuck on the way to us."""

    blocks: dict[int, Watch] = field(default_factory=dict)
    ended: dict[End, Runs] = field(default_factory=lambda: {"lost": [], "stuck": []})

    def __bool__(self) -> bool:
        return bool(self.blocks or self.ended["lost"] or self.ended["stuck"])


class Gaps:
    """`wait_s` is the age from which a hole is asked for. What a look found closed or lost is in `closed` and `lost`,
    in numbers, since the beginning."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._days: dict[DayKey, DayGaps] = {}
        self.closed = 0
        self.lost = 0

    @property
    def missing(self) -> int:
        """Numbers that are hoped for."""
        return sum(size(watch.runs) for day in self._days.values() for watch in day.blocks.values())

    def look(self, found: Mapping[DayKey, Runs], now_s: float, asks_max: int) -> list[Ask]:
        """Take note of what is missing now; what to ask for, the longest overdue first. A day that is no longer held is
        forgotten with all that was asked for in it: it belongs to another worker or to the past."""
        for key in self._days.keys() - found.keys():
            del self._days[key]
        for key, runs in found.items():
            if runs or key in self._days:
                self._note(key, runs, now_s)
        due = [
            (watch.next_s, key, watch.runs)
            for key, day in self._days.items()
            for watch in day.blocks.values()
            if watch.next_s <= now_s
        ]
        return [Ask(*key, runs[0][0], runs[-1][1]) for _, key, runs in sorted(due)[:asks_max]]

    def answered(self, ask: Ask, missing: Runs, now_s: float) -> None:
        """The gateway has sent what the venue has; `missing` is what it does not have."""
        day, watch = self._asked(ask, now_s)
        watch.answers += 1
        self._end(day, ask, "lost", both(watch.runs, missing))
        if watch.answers >= ANSWERS_MAX:
            self._end(day, ask, "stuck", watch.runs)

    def unanswered(self, ask: Ask, now_s: float) -> None:
        self._asked(ask, now_s)

    def refused(self, ask: Ask, now_s: float) -> None:
        """It will never be sent."""
        day, watch = self._asked(ask, now_s)
        self._end(day, ask, "stuck", watch.runs)

    def shown(self, now_s: float) -> list[dict[str, Any]]:
        """For people: what is open and what was given up, at most SHOWN_MAX runs."""
        return [line for _, line in zip(range(SHOWN_MAX), self._lines(now_s), strict=False)]

    def _lines(self, now_s: float) -> Iterator[dict[str, Any]]:
        for key, day in self._days.items():
            at = {"symbol": key.symbol, "session": key.session}
            for watch in day.blocks.values():
                about = {"state": "open", "ageSeconds": round(now_s - watch.since_s, 1), "requests": watch.asks}
                for first, last in watch.runs:
                    yield at | {"from": first, "to": last} | about
            for end, runs in day.ended.items():
                for first, last in runs:
                    yield at | {"from": first, "to": last, "state": end}

    def _note(self, key: DayKey, runs: Runs, now_s: float) -> None:
        day = self._days.setdefault(key, DayGaps())
        horizon = (runs[-1][1] // BLOCK - BLOCKS_MAX + 1) * BLOCK if runs else 0
        day.ended = {end: both(given_up, runs) for end, given_up in day.ended.items()}
        ended = joined(*day.ended.values())
        if far := without(both(runs, [(1, horizon - 1)]), ended):
            self.lost += size(far)
            day.ended["lost"] = joined(day.ended["lost"], far)
        hoped = in_blocks(without(both(runs, [(max(horizon, 1), runs[-1][1])]), ended) if runs else [], BLOCK)
        blocks = {number: self._watch(day.blocks.pop(number, None), now, now_s) for number, now in hoped.items()}
        self.closed += sum(size(watch.runs) for watch in day.blocks.values() if watch.asks)
        day.blocks = blocks
        if not day:
            del self._days[key]

    def _watch(self, watch: Watch | None, runs: Runs, now_s: float) -> Watch:
        """Holes that are all new wait as new ones do, though others were in their block before."""
        still = both(watch.runs, runs) if watch is not None else []
        if watch is not None and watch.asks:
            self.closed += size(watch.runs) - size(still)
        if watch is None or not still:
            return Watch(runs, now_s, now_s + self._wait_s)
        watch.runs = runs
        return watch

    def _asked(self, ask: Ask, now_s: float) -> tuple[DayGaps, Watch]:
        day = self._days[DayKey(ask.symbol, ask.session)]
        watch = day.blocks[ask.first // BLOCK]
        watch.next_s = now_s + min(PAUSE_S_FIRST * 2**watch.asks, PAUSE_S_MAX)
        watch.asks += 1
        return day, watch

    def _end(self, day: DayGaps, ask: Ask, end: End, runs: Runs) -> None:
        block = ask.first // BLOCK
        watch = day.blocks.get(block)
        if watch is None or not runs:
            return
        if end == "lost":
            self.lost += size(runs)
        day.ended[end] = joined(day.ended[end], runs)
        watch.runs = without(watch.runs, runs)
        if not watch.runs:
            del day.blocks[block]
