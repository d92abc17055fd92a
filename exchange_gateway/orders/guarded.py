"""The venue behind its circuit breaker: while it is open nothing is sent, and all are told `not_sent` at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from exchange_gateway.orders.breaker import Breaker
from exchange_gateway.orders.outcome import HELD_BACK, Answer
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from infra.clock import Clock, wait
from infra.contracts import Reason
from infra.telemetry import VENUE_BREAKER_OPEN

log = structlog.get_logger(__name__)


class Guarded:
    """A Venue. One breaker for everything that goes to `venue`."""

    def __init__(self, venue: Venue, clock: Clock) -> None:
        self._venue = venue
        self._clock = clock
        self._breaker = Breaker()
        self._changed = asyncio.Event()

    async def submit(self, order: NewOrder) -> Answer:
        return await self._one(lambda: self._venue.submit(order))

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        return await self._through(lambda: self._venue.submit_batch(orders), len(orders))

    async def cancel(self, request: CancelRequest) -> Answer:
        return await self._one(lambda: self._venue.cancel(request))

    async def replace(self, request: ReplaceRequest) -> Answer:
        return await self._one(lambda: self._venue.replace(request))

    async def query(self, cl_ord_id: str) -> Answer:
        return await self._one(lambda: self._venue.query(cl_ord_id))

    @property
    def closed(self) -> bool:
        return self._breaker.state == "closed"

    def commands_wanted(self, most: int) -> int:
        """How many more commands are worth taking now: none while the breaker is open, one when a probe is due."""
        if self.closed:
            return most
        return min(1, most) if self._breaker.asked(self._clock.monotonic_s()) else 0

    async def wait_for_change(self, seconds: float) -> None:
        """Until the breaker moves or lets a probe through, at most `seconds`."""
        if self._breaker.state == "open":
            seconds = min(seconds, max(0.0, self._breaker.until_s - self._clock.monotonic_s()))
        await wait(self._changed, seconds)

    async def _one(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        async def alone() -> list[Answer]:
            return [await request()]

        return (await self._through(alone, 1))[0]

    async def _through(self, request: Callable[[], Awaitable[list[Answer]]], size: int) -> list[Answer]:
        let = self._breaker.asked(self._clock.monotonic_s())
        if let is None:
            return [HELD_BACK] * size
        self._move(let, None)
        answers: list[Answer] = []
        try:
            answers = await request()
        finally:
            self._move(self._after(answers), answers[0].reason if answers else None)
        return answers

    def _after(self, answers: list[Answer]) -> Breaker:
        """A request that was cancelled counts as one without an answer, so that no probe is waited for in vain."""
        now_s = self._clock.monotonic_s()
        heard = any(answer.heard for answer in answers)
        after = self._breaker.heard() if heard else self._breaker.failed(now_s)
        pauses_s = [answer.retry_after_s for answer in answers if answer.retry_after_s]
        return after.held(now_s, max(pauses_s)) if pauses_s else after

    def _move(self, after: Breaker, why: Reason | None) -> None:
        before, self._breaker = self._breaker, after
        if before.state == after.state:
            return
        log.warning("venue_breaker", state=after.state, before=before.state, why=why and f"{why.code}: {why.text}")
        VENUE_BREAKER_OPEN.set(after.state != "closed")
        self._changed.set()
        self._changed = asyncio.Event()
