"""Holes in sequence numbers, and arithmetic on runs of numbers.

Runs are (first, last), both in it, ascending, disjoint and not touching.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from price_service.domain.seen import Seen

Run = tuple[int, int]
Runs = list[Run]


def holes_in(seen: Seen) -> Runs:
    """The numbers below the newest that have not come."""
    found: Runs = []
    first = seen.contiguous + 1
    for start, end in seen.above:
        found.append((first, start - 1))
        first = end + 1
    return found


def size(runs: Iterable[Run]) -> int:
    """How many numbers."""
    return sum(last - first + 1 for first, last in runs)


def both(one: Sequence[Run], other: Sequence[Run]) -> Runs:
    """The numbers that are in both."""
    found: Runs = []
    i = j = 0
    while i < len(one) and j < len(other):
        first, last = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first <= last:
            found.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


def without(runs: Iterable[Run], taken: Sequence[Run]) -> Runs:
    """The numbers of `runs` that are not in `taken`."""
    return list(_without(runs, taken))


def _without(runs: Iterable[Run], taken: Sequence[Run]) -> Iterator[Run]:
    j = 0
    for run in runs:
        first, last = run
        while j < len(taken) and taken[j][1] < first:
            j += 1
        at = j
        while at < len(taken) and taken[at][0] <= last:
            if first < taken[at][0]:
                yield first, taken[at][0] - 1
            first = taken[at][1] + 1
            at += 1
        if first <= last:
            yield first, last


def joined(one: Iterable[Run], other: Iterable[Run]) -> Runs:
    """The numbers that are in either."""
    found: Runs = []
    for first, last in sorted([*one, *other]):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def in_blocks(runs: Iterable[Run], block: int) -> dict[int, Runs]:
    """Cut at multiples of `block`: number k is in block k // block."""
    found: dict[int, Runs] = {}
    for first, last in runs:
        for number in range(first // block, last // block + 1):
            piece = (max(first, number * block), min(last, (number + 1) * block - 1))
            found.setdefault(number, []).append(piece)
    return found
