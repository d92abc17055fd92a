"""How often the event loop was held up: everything in a process waits for whoever does not give way."""

from __future__ import annotations

import asyncio

import structlog

from infra.clock import Clock
from infra.telemetry import LOOP_STALLS

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.05
STALL_S = 0.02
LOG_EVERY_S = 60.0


class StallWatch:
    """Sleeps, and looks how much later than it should it wakes up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted_s = -LOG_EVERY_S

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            due_s = self._clock.monotonic_s() + LOOK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)
            self.woke(self._clock.monotonic_s() - due_s)

    def woke(self, late_s: float) -> None:
        if late_s <= STALL_S:
            return
        LOOP_STALLS.inc()
        now_s = self._clock.monotonic_s()
        if now_s - self._noted_s >= LOG_EVERY_S:
            self._noted_s = now_s
            log.warning("loop_stalled", late_ms=round(late_s * 1000))
