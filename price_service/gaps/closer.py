"""Closes gaps in what is stored: looks for missing sequence numbers and has the venue send them again.

The ticks come back on the bus like any others, so the store, the bars and the streams take them as late ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from infra.clock import Clock, wait
from infra.telemetry import GAP_CLOSED, GAP_LOST, GAP_MISSING_TICKS, GAP_REQUESTS
from price_service.gaps.plan import Gaps
from price_service.gaps.ports import Ask, GatewayAway, Holey, Refused, Resender

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0


class GapCloser:
    """`wait_s` is the age from which a hole is asked for, `asks_max` the requests of one look."""

    def __init__(self, ingest: Holey, resender: Resender, clock: Clock, wait_s: float, asks_max: int) -> None:
        self._ingest = ingest
        self._resender = resender
        self._clock = clock
        self._asks_max = asks_max
        self._gaps = Gaps(wait_s)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await wait(stop, LOOK_EVERY_S)
            await self.look(stop)

    async def look(self, stop: asyncio.Event) -> None:
        """Ask for what is due. A gateway that does not answer once is left alone until the next look."""
        gaps, closed, lost = self._gaps, self._gaps.closed, self._gaps.lost
        for ask in gaps.look(self._ingest.holes(), self._clock.monotonic_s(), self._asks_max):
            if stop.is_set() or not await self._ask(ask):
                break
        GAP_CLOSED.inc(gaps.closed - closed)
        GAP_LOST.inc(gaps.lost - lost)
        GAP_MISSING_TICKS.set(gaps.missing)
        if gaps.lost > lost:
            log.warning("ticks_lost", ticks=gaps.lost - lost)

    def shown(self) -> list[dict[str, Any]]:
        return self._gaps.shown(self._clock.monotonic_s())

    async def _ask(self, ask: Ask) -> bool:
        try:
            missing = await self._resender.resend(ask)
        except GatewayAway as error:
            log.warning("ticks_not_asked_for", error=str(error), **ask._asdict())
            GAP_REQUESTS.labels("unanswered").inc()
            self._gaps.unanswered(ask, self._clock.monotonic_s())
            return False
        except Refused as error:
            log.error("ticks_refused", error=str(error), **ask._asdict())
            GAP_REQUESTS.labels("refused").inc()
            self._gaps.refused(ask, self._clock.monotonic_s())
            return True
        log.info("ticks_asked_for", missing=missing, **ask._asdict())
        GAP_REQUESTS.labels("answered").inc()
        self._gaps.answered(ask, missing, self._clock.monotonic_s())
        return True
