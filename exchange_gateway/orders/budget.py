"""How many quick retries the venue gets: a token bucket, so that retries stay a small part of what is sent when much
fails at once. Pure."""

from __future__ import annotations

SHARE = 0.1
FLOOR_PER_S = 2.0
TOKENS_MAX = 50.0


class RetryBudget:
    """A first send adds SHARE of a retry, a second FLOOR_PER_S; a retry takes one. Times are monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self._tokens = TOKENS_MAX / 2
        self._at_s = now_s

    def sent(self) -> None:
        self._tokens = min(TOKENS_MAX, self._tokens + SHARE)

    def take(self, now_s: float) -> bool:
        """May there be a retry? If so it is counted."""
        self._tokens = min(TOKENS_MAX, self._tokens + FLOOR_PER_S * max(0.0, now_s - self._at_s))
        self._at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
