"""One command of the topic `orders`: to the venue, and what became of it to `order-status`.

It is delivered once and told until that is durable. A command that can never be handled is parked, and with it, until
an operator decides, every later command of its order: what follows was meant for the order as the parked one would have
left it. Questions go through, they change nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import msgspec
import structlog

from exchange_gateway.orders.deliver import Delivery, Errand, HeldBack, Verdict, reported
from exchange_gateway.orders.opened import Opened, submit_of
from exchange_gateway.orders.parked import Parked, Stuck
from exchange_gateway.orders.ports import Told
from exchange_gateway.venue import VenueAway
from infra.clock import Clock
from infra.contracts import BLOCKED_BY, Command, Reason, Report, ReportSource, SendOutcome
from infra.dlq.letters import REPLAYED_FROM
from infra.dlq.park import Park
from infra.telemetry import SENDS

log = structlog.get_logger(__name__)

MALFORMED, HANDLER_ERROR, TOO_LATE = "malformed", "handler_error", "too_late"


class Patience(Protocol):
    """How trouble that may pass is waited out. Both raise `infra.worker.Stopping` when the process stops."""

    async def for_venue(self, tries: int) -> None:
        """Until another try at the venue is worth it; `tries` failed in a row, 0 when the breaker forbade the last."""
        ...

    async def insist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat `step` until the bus, or the store, takes it."""
        ...


class Forward:
    def __init__(self, delivery: Delivery, told: Told, clock: Clock, parked: Parked, patience: Patience) -> None:
        self._delivery = delivery
        self._told = told
        self._clock = clock
        self._parked = parked
        self._patience = patience

    async def __call__(self, opened: Opened, maybe_sent: bool) -> Park | None:
        """Returns when all that is to be said is durable; a Park is the caller's to write before it commits."""
        if (stuck := await self._stuck(opened)) is not None:
            return await self._blocked(opened, stuck)
        command = opened.command
        if command is None:
            unsent = (opened.cl_ord_id or submit_of(opened.order_id)) if opened.kind == "submit" else None
            return await self._park(opened, Stuck(opened.place, unsent), MALFORMED, opened.wrong)
        await self._tell(opened, command, await self._delivered(Errand(command, maybe_sent)))
        return None

    async def unhandled(self, opened: Opened, error: Exception) -> Park:
        """Our own failure at a command; nothing is known of how far it came."""
        return await self._park(opened, Stuck(opened.place), HANDLER_ERROR, f"{type(error).__name__}: {error}")

    async def _stuck(self, opened: Opened) -> Stuck | None:
        if opened.message.header(REPLAYED_FROM) is not None:  # an operator's decision, which frees the order
            self._parked.free(opened.order_id)
        if opened.kind == "query":
            return None
        found: Stuck | None = None

        async def ask() -> None:
            nonlocal found
            found = await self._parked.of(opened.order_id)

        await self._patience.insist(ask)
        return found

    async def _delivered(self, errand: Errand) -> Verdict:
        tries = 0
        while True:
            try:
                return await self._delivery.deliver(errand)
            except VenueAway as error:
                log.debug("waiting_for_the_venue", order_id=errand.command.order_id, error=str(error))
                tries = 0 if isinstance(error, HeldBack) else tries + 1
            await self._patience.for_venue(tries)

    async def _tell(self, opened: Opened, command: Command, verdict: Verdict) -> None:
        answer = verdict.answer
        SENDS.labels(answer.outcome).inc()
        if answer.outcome == "accepted":
            await self._patience.insist(
                lambda: self._told.reports(command, answer.reports, verdict.source, opened.traceparent)
            )
            if not reported(command, answer):
                text = "the order had ended at the exchange before the request arrived"
                await self._say(opened, command.cl_ord_id, "refused", Reason(TOO_LATE, text), verdict.attempts, "query")
            return
        # "Not found" answers a question; that the order never was there is for the asker to conclude.
        outcomes: dict[str, SendOutcome] = {"refused": "refused", "not_sent": "not_sent"}
        outcome = outcomes.get(answer.outcome, "unknown")
        await self._say(opened, command.cl_ord_id, outcome, answer.reason, verdict.attempts, verdict.source)

    async def _park(self, opened: Opened, stuck: Stuck, code: str, text: str) -> Park:
        if opened.order_id:
            request = opened.cl_ord_id or submit_of(opened.order_id)
            await self._say(opened, request, "parked", Reason(code, text))
            self._parked.add(opened.order_id, stuck)
        return Park(opened.message, code, text)

    async def _blocked(self, opened: Opened, stuck: Stuck) -> Park | None:
        command = opened.command
        if command is not None and command.kind == "cancel" and stuck.unsent_submit is not None:
            submit = msgspec.structs.replace(command, kind="submit", cl_ord_id=stuck.unsent_submit, orig_cl_ord_id=None)
            if await self._is_nowhere(submit):
                text = f"canceled while its submit was parked ({stuck.place}) and had never been sent"
                await self._say(replace(opened, command=submit), submit.cl_ord_id, "not_sent", Reason(BLOCKED_BY, text))
                return None
        text = f"an earlier command of the order is parked: {stuck.place}"
        if opened.cl_ord_id:
            await self._say(opened, opened.cl_ord_id, "not_sent", Reason(BLOCKED_BY, text))
        return Park(opened.message, BLOCKED_BY, text)

    async def _is_nowhere(self, submit: Command) -> bool:
        """A submit that nobody could read was not sent by us; that none was before it, only the venue can say."""
        found = await self._delivered(Errand(msgspec.structs.replace(submit, kind="query")))
        return found.answer.outcome == "not_found"

    async def _say(
        self,
        opened: Opened,
        cl_ord_id: str,
        outcome: SendOutcome,
        reason: Reason | None,
        attempts: int = 0,
        source: ReportSource = "answer",
    ) -> None:
        report = Report(
            kind="send_outcome",
            order_id=opened.order_id,
            cl_ord_id=cl_ord_id,
            source=source,
            received_ns=self._clock.now_ns(),
            reason=reason,
            outcome=outcome,
            command=opened.command.kind if opened.command else None,
            attempts=attempts,
        )
        event_id = f"{opened.event_id}-{outcome}"
        key = opened.command.idempotency_key if opened.command else None
        await self._patience.insist(lambda: self._told.outcome(report, event_id, key or event_id, opened.traceparent))
