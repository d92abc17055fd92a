"""What really happened at the venue, for those who check: the journal of all its lives, the forgotten ones too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from exchange_gateway.simulator.journal import Kind, Line, forgotten, numbered_of, segments
from exchange_gateway.simulator.messages import NewOrder, Report


class Recorded(NamedTuple):
    """One input of the venue and what it caused. `terms` are those of a submit, a stray or a carried order."""

    kind: Kind
    terms: NewOrder | None
    reports: list[Report]


def read_all(folder: Path) -> Iterator[Recorded]:
    """Every input that is still kept, life by life, oldest first; each report once (a carried order repeats its own).

    May be called while the venue runs: a line that is being written is left out.
    """
    for life in (*forgotten(folder), folder):
        yield from recorded(chain.from_iterable(_lines(path) for path in segments(life)))


def recorded(lines: Iterable[bytes]) -> Iterator[Recorded]:
    """The lines of one life, without the segments' heads."""
    seen: set[int] = set()
    for raw in lines:
        line = msgspec.json.decode(raw, type=Line)
        fresh = [numbered for numbered in numbered_of(line) if numbered.n not in seen]
        seen.update(numbered.n for numbered in fresh)
        yield Recorded(line.kind, line.terms, [numbered.report for numbered in fresh])


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[1:-1]
