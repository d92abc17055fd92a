"""How often someone may ask: the generic cell rate algorithm (GCRA, ITU-T I.371 annex A), one number per bucket.

A bucket is full at first and holds `burst` requests; it fills up at `per_second`. What is kept is the moment when it
will be full again, so nothing has to run in between. Time is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from typing import Protocol

BUCKETS_MAX = 65_536
# What adding up intervals may be off by, on a clock that counts from 1970.
_ROUNDING_S = 1e-6


class Rate(Protocol):
    """Who counts. Local to a process; one that shares its counts may take from a local share of them and settle in the
    background, since this is asked between two reads of a socket."""

    def take(self, key: str, now_s: float) -> float:
        """0 when the request is within the rate, and counted; else the seconds after which one will be."""
        ...


class LocalRate:
    """Buckets of this process, at most `buckets_max`: full ones are forgotten first, then the oldest."""

    def __init__(self, per_second: float, burst: int, buckets_max: int = BUCKETS_MAX) -> None:
        self._interval_s = 1 / per_second
        self._ahead_s = self._interval_s * (max(burst, 1) - 1) + _ROUNDING_S
        self._full_at_s: dict[str, float] = {}
        self._buckets_max = buckets_max

    def take(self, key: str, now_s: float) -> float:
        full_at_s = self._full_at_s.get(key, 0.0)
        if full_at_s <= now_s:
            if not full_at_s and len(self._full_at_s) >= self._buckets_max:
                self._make_room(now_s)
            full_at_s = now_s
        elif full_at_s - now_s > self._ahead_s:
            return full_at_s - now_s - self._ahead_s
        self._full_at_s[key] = full_at_s + self._interval_s
        return 0.0

    def __len__(self) -> int:
        return len(self._full_at_s)

    def _make_room(self, now_s: float) -> None:
        """A full bucket is as good as none, so dropping it changes nothing."""
        left = {key: at for key, at in self._full_at_s.items() if at > now_s}
        for key in list(left)[: max(len(left) - self._buckets_max // 2, 0)]:
            del left[key]
        self._full_at_s = left


class Unlimited:
    """The rate of a deployment that limits elsewhere."""

    def take(self, key: str, now_s: float) -> float:
        return 0.0


def rate(per_second: float, burst: int) -> Rate:
    """`per_second` 0 means no limit."""
    return LocalRate(per_second, burst) if per_second > 0 else Unlimited()
