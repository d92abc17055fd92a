"""One command's way to the venue: try, ask, and say only what is proved.

A request that provably never left is tried again in place for a short while, then the batch waits. A request that may
have arrived is never sent again from here: the venue is asked by ClOrdID for a few seconds, and what stays open is
published as `unknown` for order_service to chase.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from exchange_gateway.backoff import full_jitter_s
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest, StatusRequest, asked_as, request_of
from exchange_gateway.venue import FINAL_STATUSES, VenueAway
from infra.clock import Clock
from infra.contracts import Command, Reason, ReportSource

Pause = Callable[[float], Awaitable[None]]

FIRST_PAUSE_S = 0.05
PAUSE_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`retry_s`: how long a request that never left is tried again in place; `ask_s`: how long an open one is asked
    about; `sends_max`: requests to the venue at one time."""

    retry_s: float = 3.0
    ask_s: float = 3.0
    sends_max: int = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a command at the end; `source` says whether the venue answered it or was asked."""

    answer: Answer
    source: ReportSource
    attempts: int


class Delivery:
    """`pause` waits; it raises VenueAway when the process stops, so that nothing is decided in a hurry."""

    def __init__(
        self, venue: Venue, clock: Clock, random: Random, limits: Limits, pause: Pause = asyncio.sleep
    ) -> None:
        self._venue = venue
        self._clock = clock
        self._random = random
        self._limits = limits
        self._pause = pause
        self._room = asyncio.Semaphore(limits.sends_max)

    async def deliver(self, command: Command) -> Verdict:
        """Raises VenueAway when nothing was sent and nothing could be proved: the command is to come again."""
        if command.kind == "query":
            return Verdict(_proved(await self._ask(command, may_arrive=False)), "query", 1)
        if self._too_late(command):
            return await self._withhold(command)
        answer, attempts = await self._send(command)
        answer = _proved(answer)
        if answer.outcome == "not_found":  # the order that a cancel or replace names: a refusal of the request
            return Verdict(replace(answer, outcome="refused"), "answer", attempts)
        if answer.outcome not in ("unknown", "duplicate"):
            return Verdict(answer, "answer", attempts)
        found = await self._ask(command, may_arrive=True)
        if found.outcome == "accepted":
            return Verdict(found, "query", attempts)
        reason = found.reason if found.outcome == "not_found" else answer.reason
        return Verdict(Answer("unknown", reason=reason), "query", attempts)

    async def _withhold(self, command: Command) -> Verdict:
        """Too late for a first send. It may have been sent before a crash of ours: only the venue's own "never heard
        of it" proves that it was not."""
        found = _proved(await self._ask(command, may_arrive=False))
        if found.outcome == "not_found":
            text = "the time until which the order may first be sent has passed"
            found = Answer("not_sent", reason=Reason("not_after_passed", text))
        return Verdict(found, "query", 0)

    def _too_late(self, command: Command) -> bool:
        first = command.kind == "submit"
        return first and command.not_after_ns is not None and self._clock.now_ns() > command.not_after_ns

    async def _send(self, command: Command) -> tuple[Answer, int]:
        attempts = 0

        async def attempt() -> Answer:
            nonlocal attempts
            if self._too_late(command):
                raise VenueAway("too late for another try")
            attempts += 1
            return await self._call(command)

        return await self._again_while(attempt, {"not_sent"}, self._limits.retry_s), attempts

    async def _ask(self, command: Command, may_arrive: bool) -> Answer:
        """Until the venue's answer settles the command, or the time is over; then the last answer.

        A request that `may_arrive` yet makes a "not found" worth asking again.
        """

        async def attempt() -> Answer:
            async with self._room:
                answer = await self._venue.query(asked_as(command))
            if answer.outcome == "accepted" and not settles(command, answer):
                return Answer("unknown", reason=Reason("not_reported", "the order is known, the request is not"))
            return answer

        still_open = {"not_sent", "unknown", "not_found"} if may_arrive else {"not_sent", "unknown"}
        return await self._again_while(attempt, still_open, self._limits.ask_s)

    async def _again_while(
        self, attempt: Callable[[], Awaitable[Answer]], still_open: set[str], seconds: float
    ) -> Answer:
        deadline_s = self._clock.monotonic_s() + seconds
        answer = await attempt()  # nearly always enough: the machinery of retries costs more than a send
        if answer.outcome not in still_open or self._clock.monotonic_s() >= deadline_s:
            return answer
        await self._pause(full_jitter_s(1, FIRST_PAUSE_S, PAUSE_S_MAX, self._random))
        retrying = AsyncRetrying(
            retry=retry_if_result(lambda answer: answer.outcome in still_open),
            stop=lambda state: self._clock.monotonic_s() >= deadline_s,
            wait=self._wait_s,
            sleep=self._pause,
            retry_error_callback=_last,
        )
        return await retrying(attempt)

    def _wait_s(self, state: RetryCallState) -> float:
        return full_jitter_s(state.attempt_number + 1, FIRST_PAUSE_S, PAUSE_S_MAX, self._random)

    async def _call(self, command: Command) -> Answer:
        async with self._room:
            match request_of(command):
                case NewOrder() as order:
                    return await self._venue.submit(order)
                case CancelRequest() as cancel:
                    return await self._venue.cancel(cancel)
                case ReplaceRequest() as change:
                    return await self._venue.replace(change)
                case StatusRequest(cl_ord_id=cl_ord_id):
                    return await self._venue.query(cl_ord_id)


def _proved(answer: Answer) -> Answer:
    if answer.outcome == "not_sent":
        raise VenueAway(f"{answer.reason.code}: {answer.reason.text}" if answer.reason else "")
    return answer


def settles(command: Command, answer: Answer) -> bool:
    """Does the venue's account of the order tell what became of this command? For a submit it does by existing; a
    cancel or replace is settled by a report of its own, or by the order's end."""
    if command.kind not in ("cancel", "replace"):
        return True
    if any(report.cl_ord_id == command.cl_ord_id for report in answer.reports):
        return True
    return answer.order is not None and answer.order.order_status in FINAL_STATUSES


def _last(state: RetryCallState) -> Answer:
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer
