"""How long to wait before trying again: exponential with full jitter, so that many who wait do not return at once
(Brooker, "Exponential Backoff and Jitter")."""

from __future__ import annotations

from random import Random


def full_jitter_s(attempt: int, first_s: float, max_s: float, random: Random) -> float:
    """Seconds before the try that follows `attempt` (from 1): anything between nothing and the doubled ceiling."""
    return random.uniform(0.0, min(max_s, first_s * 2.0 ** min(attempt - 1, 30)))
