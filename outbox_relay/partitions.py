"""Which partitions the outbox should have, and which it no longer needs. Pure.

A partition is made only well before its time. Rows of the present whose partition is missing are in the default one,
and more may be on their way into it: a partition made for them now would have those refused in the middle of an order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# How long before its first row a partition must be there: much longer than making it may take.
MARGIN = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUNDS = re.compile(r"FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)")


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows created from `start` up to, not including, `end`."""

    name: str
    start: datetime
    end: datetime


def partition_of(name: str, bounds: str) -> Partition | None:
    """From the server's words for a partition's bounds, ISO dates in UTC; None for the default partition."""
    if bounds == "DEFAULT":
        return None
    match = _BOUNDS.fullmatch(bounds)
    if match is None:
        raise ValueError(f"the partition {name} has other bounds than two times: {bounds}")
    return Partition(name, datetime.fromisoformat(match[1]), datetime.fromisoformat(match[2]))


def to_make(existing: Iterable[Partition], now: datetime, length: timedelta, ahead: int) -> list[Partition]:
    """What is missing until `ahead` partitions lie before us, in order. Begins where the existing ones end, so the
    length may be changed at any time."""
    start = max((p.end for p in existing), default=EPOCH)
    if start < now + MARGIN:
        start = _boundary(now + MARGIN, length)
    made: list[Partition] = []
    while start < now + ahead * length:
        end = _boundary(start + timedelta(microseconds=1), length)
        made.append(Partition(f"outbox_p{start:%Y%m%d%H%M}", start, end))
        start = end
    return made


def to_drop(existing: Iterable[Partition], before: datetime) -> list[Partition]:
    """Those that hold nothing but rows older than `before`."""
    return [p for p in existing if p.end <= before]


def _boundary(moment: datetime, length: timedelta) -> datetime:
    """The first multiple of `length` since the epoch that is not before `moment`."""
    return EPOCH - (EPOCH - moment) // length * length
