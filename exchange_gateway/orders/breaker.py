"""When requests to the venue are let through: a circuit breaker as a pure state machine (Nygard, "Release It!").

closed: all. open: none until `until_s`, because one request after the other got no answer, or because the venue asked
for a pause. half_open: one, the probe, is on its way; its end decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

FAILURES_MAX = 5
FIRST_OPEN_S = 0.2
OPEN_S_MAX = 2.0
HOLD_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failures` and `openings` count in a row; each opening without a good probe between lasts twice as long. Times
    are monotonic seconds."""

    state: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    openings: int = 0
    until_s: float = 0.0

    def asked(self, now_s: float) -> Breaker | None:
        """The breaker after it let a request through, or None when it does not."""
        if self.state == "closed":
            return self
        if self.state == "open" and now_s >= self.until_s:
            return replace(self, state="half_open")
        return None

    def heard(self) -> Breaker:
        """The venue answered. A request from before the opening cannot close it; the probe can."""
        return self if self.state == "open" else Breaker()

    def failed(self, now_s: float) -> Breaker:
        """A request got no answer."""
        if self.state == "half_open":
            return self._opened(now_s)
        if self.state == "open":
            return self
        if self.failures + 1 < FAILURES_MAX:
            return replace(self, failures=self.failures + 1)
        return self._opened(now_s)

    def held(self, now_s: float, seconds: float) -> Breaker:
        """The venue asked for a pause, which is kept up to HOLD_S_MAX."""
        until_s = now_s + min(seconds, HOLD_S_MAX)
        return replace(self, state="open", until_s=max(self.until_s, until_s))

    def _opened(self, now_s: float) -> Breaker:
        seconds = min(OPEN_S_MAX, FIRST_OPEN_S * 2.0 ** min(self.openings, 30))
        return Breaker("open", 0, self.openings + 1, now_s + seconds)
