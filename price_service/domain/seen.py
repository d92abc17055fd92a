"""Which sequence numbers were taken: the highest contiguous one, and the runs above it.

A plain high-water mark would drop late ticks and keep re-sent ones that fill a hole; a set of all numbers would grow
without bound. Holes are rare, so the runs above the mark are few.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

_ANY_END = 1 << 63


class Seen(msgspec.Struct):
    """Numbers from 1. `above` holds disjoint runs (first, last), ascending, none touching another or `contiguous`."""

    contiguous: int = 0
    above: list[tuple[int, int]] = []

    def add(self, q: int) -> bool:
        """Take `q`. False when it was taken before."""
        if q == self.contiguous + 1 and not self.above:
            self.contiguous = q
            return True
        return q > self.contiguous and self._add_above(q)

    def add_run(self, first: int, last: int) -> bool:
        """Take `first` to `last` when they are just what comes next. Else nothing is changed and False."""
        if first != self.contiguous + 1 or self.above:
            return False
        self.contiguous = last
        return True

    @property
    def newest(self) -> int:
        return self.above[-1][1] if self.above else self.contiguous

    @property
    def missing(self) -> int:
        """How many numbers below the newest have not come."""
        return self.newest - self.contiguous - sum(last - first + 1 for first, last in self.above)

    def _add_above(self, q: int) -> bool:
        runs = self.above
        at = bisect_right(runs, (q, _ANY_END))
        if at and runs[at - 1][1] >= q:
            return False
        first = last = q
        if at < len(runs) and runs[at][0] == q + 1:
            last = runs.pop(at)[1]
        if at and runs[at - 1][1] == q - 1:
            at -= 1
            first = runs.pop(at)[0]
        if first == self.contiguous + 1:
            self.contiguous = last
        else:
            runs.insert(at, (first, last))
        return True
