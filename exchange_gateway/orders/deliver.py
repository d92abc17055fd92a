"""One command's way to the venue: try, ask, and say only what is proved.

A request that provably never left is tried again in place for a short while and within the venue's budget of retries;
then it waits for the venue. A request that may have arrived is never sent again from here: the venue is asked by
ClOrdID for a few seconds, and what stays open is published as `unknown` for order_service to chase.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from exchange_gateway.backoff import full_jitter_s
from exchange_gateway.orders.budget import RetryBudget
from exchange_gateway.orders.outcome import HELD_BACK, Answer
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest, StatusRequest, asked_as, request_of
from exchange_gateway.venue import FINAL_STATUSES, VenueAway
from infra.clock import NS_PER_S, Clock
from infra.contracts import NOT_AFTER_PASSED, SWITCHED_OFF, Command, Reason, ReportSource, Switch

Pause = Callable[[float], Awaitable[None]]
# (symbol, account) → the kill switch that forbids most for them now, or None.
StrictestSwitch = Callable[[str, int], Switch | None]
# The venue's session (Unix seconds of its start), 0 before one was named.
PresentSession = Callable[[], int]

FIRST_PAUSE_S = 0.05
PAUSE_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`retry_s`: how long a request that never left is tried again in place; `ask_s`: how long an open one is asked
    about."""

    retry_s: float = 3.0
    ask_s: float = 3.0


@dataclass(slots=True)
class Errand:
    """A command and what was done for it so far. `maybe_sent`: the venue may have it from before a restart, so it is
    asked first and only its "never heard of it" lets the command go. `attempts` counts requests that carried it."""

    command: Command
    maybe_sent: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a command at the end; `source` says whether the venue answered it or was asked."""

    answer: Answer
    source: ReportSource
    attempts: int


class HeldBack(VenueAway):
    """The breaker did not let the request through: worth another try as soon as it closes."""


class Withheld(Exception):
    """The command may not be sent, for this reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.reason = Reason(code, text)


class Delivery:
    """`pause` waits; it raises VenueAway when the process stops, so that nothing is decided in a hurry."""

    def __init__(
        self,
        venue: Venue,
        switch_of: StrictestSwitch,
        session_of: PresentSession,
        clock: Clock,
        random: Random,
        limits: Limits,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._venue = venue
        self._switch_of = switch_of
        self._session_of = session_of
        self._clock = clock
        self._random = random
        self._limits = limits
        self._pause = pause
        self._budget = RetryBudget(clock.monotonic_s())

    async def deliver(self, errand: Errand) -> Verdict:
        """Raises VenueAway when nothing was sent and nothing could be proved: the errand is to be tried again."""
        command = errand.command
        if command.kind == "query":
            return Verdict(_proved(await self._ask(command, may_arrive=False)), "query", 1)
        if errand.maybe_sent or command.kind == "submit_again":
            if (known := await self._known(command)) is not None:
                return Verdict(known, "query", errand.attempts)
            errand.maybe_sent = False
        try:
            answer = _proved(await self._send(errand))
        except Withheld as withheld:
            return Verdict(Answer("not_sent", reason=withheld.reason), "answer", errand.attempts)
        if answer.outcome == "not_found" and command.kind in ("cancel", "replace"):
            # The order that it names is not there: a refusal of the request.
            return Verdict(replace(answer, outcome="refused"), "answer", errand.attempts)
        if answer.outcome in ("accepted", "refused"):
            return Verdict(answer, "answer", errand.attempts)
        found = await self._ask(command, may_arrive=True)
        if found.outcome == "accepted":
            return Verdict(found, "query", errand.attempts)
        reason = found.reason if found.outcome == "not_found" else answer.reason
        return Verdict(Answer("unknown", reason=reason), "query", errand.attempts)

    async def _known(self, command: Command) -> Answer | None:
        """What the venue knows of a command that may have been sent before; None when it never heard of it. A cancel or
        replace that it did not report goes (again): its ClOrdID is the same, so it cannot count twice."""
        found = _proved(await self._ask(command, may_arrive=False))
        if found.outcome == "not_found" or found == _NOT_REPORTED:
            return None
        return found

    def _may_go(self, command: Command) -> None:
        """Raises Withheld. Asked before each try, as all tries before it provably never left. A cancel always may."""
        if command.kind in ("cancel", "query"):
            return
        first = command.kind in ("submit", "submit_again")
        if first and command.not_after_ns is not None and self._clock.now_ns() > command.not_after_ns:
            raise Withheld(NOT_AFTER_PASSED, "the time until which the order may first be sent has passed")
        if first and command.tif == "DAY" and command.requested_ns < self._session_of() * NS_PER_S:
            raise Withheld(NOT_AFTER_PASSED, "the session for which the order was placed is over")
        switch = self._switch_of(command.symbol, command.account_id)
        if switch is None or switch.mode == "normal":
            return
        if switch.mode == "cancel_only" or command.order_type == "buy":
            raise Withheld(SWITCHED_OFF, f"{switch.scope} is {switch.mode}: {switch.reason}")

    async def _send(self, errand: Errand) -> Answer:
        tries = 0
        self._budget.sent()

        async def attempt() -> Answer:
            nonlocal tries
            if tries and not self._budget.take(self._clock.monotonic_s()):
                raise VenueAway("the budget of retries is used up")
            self._may_go(errand.command)
            tries += 1
            answer = await self._call(errand.command)
            if answer == HELD_BACK:
                raise HeldBack("the circuit breaker is open")
            errand.attempts += 1
            return answer

        return await self._again_while(attempt, {"not_sent"}, self._limits.retry_s)

    async def _ask(self, command: Command, may_arrive: bool) -> Answer:
        """Until the venue's answer settles the command, or the time is over; then the last answer.

        A request that `may_arrive` yet makes a "not found" worth asking again.
        """

        async def attempt() -> Answer:
            answer = await self._venue.query(asked_as(command))
            if answer.outcome == "accepted" and not settles(command, answer):
                return _NOT_REPORTED
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
        match request_of(command):
            case NewOrder() as order:
                return await self._venue.submit(order)
            case CancelRequest() as cancel:
                return await self._venue.cancel(cancel)
            case ReplaceRequest() as change:
                return await self._venue.replace(change)
            case StatusRequest(cl_ord_id=cl_ord_id):
                return await self._venue.query(cl_ord_id)


_NOT_REPORTED = Answer("unknown", reason=Reason("not_reported", "the order is known, the request is not"))


def _proved(answer: Answer) -> Answer:
    if answer.outcome == "not_sent":
        raise VenueAway(f"{answer.reason.code}: {answer.reason.text}" if answer.reason else "")
    return answer


def settles(command: Command, answer: Answer) -> bool:
    """Does the venue's account of the order tell what became of this command? For a submit it does by existing; a
    cancel or replace is settled by a report of its own, or by the order's end."""
    if reported(command, answer):
        return True
    return answer.order is not None and answer.order.order_status in FINAL_STATUSES


def reported(command: Command, answer: Answer) -> bool:
    """Is there a report of the request itself? An order that ended tells no more of a request that came too late."""
    if command.kind not in ("cancel", "replace"):
        return True
    return any(report.cl_ord_id == command.cl_ord_id for report in answer.reports)


def _last(state: RetryCallState) -> Answer:
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer
