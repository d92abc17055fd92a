"""How often a symbol is usually heard of, and so how old its quote may be before it is stale. Pure, in integers.

A busy symbol is stale after seconds, a thin one after minutes: its quote is as good as it ever is while it ticks as it
usually does. Ticks come in bursts, so what follows a counted arrival within a second is no arrival of its own; that
also keeps the estimate off the path of nearly every tick.

The mean gap is an exponential average with weight 1/8, kept times eight so that nothing is lost in rounding (as TCP
keeps its round-trip time, Jacobson 1988). A gap counts for at most what would have been stale, so an outage hardly
teaches that silence is normal, and a symbol that really became slower is believed after a few arrivals.
"""

from __future__ import annotations

BURST_MS = 1_000
# Arrivals without memory are later than five mean gaps once in 150 times.
GAPS = 5
_WEIGHT = 8


class Cadence:
    """Of one symbol, on receive time. A quote is stale after `floor_ms` ≤ five usual gaps ≤ `cap_ms`."""

    __slots__ = ("_cap_ms", "_counted_ms", "_floor_ms", "_sum_ms", "due_ms", "stale_after_ms")

    def __init__(self, floor_ms: int, cap_ms: int) -> None:
        self._floor_ms = floor_ms
        self._cap_ms = max(cap_ms, floor_ms)
        self._counted_ms = 0
        self._sum_ms = 0  # eight times the mean gap; 0 while no gap is known
        self.due_ms = 0  # an arrival before this is of the same burst
        self.stale_after_ms = floor_ms

    def arrived(self, received_ms: int) -> None:
        """A tick, received at `due_ms` or later."""
        if self._counted_ms:
            gap_ms = min(received_ms - self._counted_ms, self.stale_after_ms)
            self._learn(self._sum_ms - self._sum_ms // _WEIGHT + gap_ms if self._sum_ms else gap_ms * _WEIGHT)
        self._counted_ms = received_ms
        self.due_ms = received_ms + BURST_MS

    def begin(self) -> None:
        """A new session: the night before it is no gap."""
        self._counted_ms = self.due_ms = 0

    def guess(self, ticks: int, first_ms: int, last_ms: int) -> None:
        """Start from what a snapshot tells: that many ticks between two receive times."""
        if ticks > 0 and last_ms > first_ms:
            self._learn(max((last_ms - first_ms) // ticks, 1) * _WEIGHT)
        self._counted_ms, self.due_ms = last_ms, last_ms + BURST_MS

    def _learn(self, sum_ms: int) -> None:
        self._sum_ms = min(sum_ms, self._cap_ms * _WEIGHT)
        self.stale_after_ms = min(max(self._sum_ms * GAPS // _WEIGHT, self._floor_ms), self._cap_ms)
