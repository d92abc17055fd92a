"""The timer that chases what nobody answers: submits of unknown outcome, cancels and replaces without an answer.

An order that was stored and of which nothing was heard at all is not chased: its command is in the outbox or on the
topic, and the gateway says what became of it, `not_sent` when its time is over before it can go.
"""

from __future__ import annotations

import asyncio

import structlog

from infra.clock import Clock, Ids, wait
from infra.db import TRANSIENT
from infra.principal import system
from infra.telemetry import CHASED
from order_service.chase.plan import Ask, GiveUp, Nothing, SendAgain, Step, Wait, plan
from order_service.domain import facts, reasons
from order_service.domain.doubt import Doubt, Patience, doubt_of, next_attempt_us
from order_service.domain.facts import Fact, NextAttempt, RequestRejected, Sent
from order_service.domain.lifecycle import NAMES, Event
from order_service.domain.order import Order, Outcome, Pending, Why
from order_service.store import commands
from order_service.store.ports import ConflictError, OrderStore, Watch
from order_service.store.traces import traceparent_of
from order_service.store.unit import Change, Unit, Want

log = structlog.get_logger(__name__)
NAME = "chase"
LOOK_S = 0.5
BATCH_MAX = 200
_STEPS = {Ask: "OrderAskedAfter", SendAgain: "OrderSentAgain", Nothing: "OrderUpdated"}


class Chase:
    """Safe to run twice: whoever comes second finds the order's next attempt in the future."""

    def __init__(self, store: OrderStore, watch: Watch, clock: Clock, ids: Ids, patience: Patience) -> None:
        self._store = store
        self._watch = watch
        self._clock = clock
        self._ids = ids
        self._patience = patience
        self._asker = system(NAME)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                done = await self.once()
            except (*TRANSIENT, ConflictError) as error:
                log.warning("chase_interrupted", error=repr(error))
                done = 0
            if done < BATCH_MAX:
                await wait(stop, LOOK_S)

    async def once(self) -> int:
        """One batch of what is due; returns how many orders were looked at."""
        now_us = self._clock.now_ns() // 1000
        due = await self._watch.due(now_us, BATCH_MAX)
        if due:
            steps = await self._store.write(
                self._asker, Want(orders=frozenset(due)), lambda unit: [self._step(unit, one, now_us) for one in due]
            )
            for step in steps:
                CHASED.labels(type(step).__name__).inc()
        return len(due)

    def _step(self, unit: Unit, order_id: str, now_us: int) -> Step:
        order = unit.orders.get(order_id)
        step = Nothing() if order is None else plan(order, now_us, self._patience)
        if order is None or isinstance(step, Wait):
            return step
        after = facts.apply(order, self._fact(order, step, now_us), now_us)
        if after is order:
            return step
        trace = traceparent_of(None, self._ids)
        change = Change(type=_name(order, after, step), cause=NAME, event_id=self._ids.text7(), traceparent=trace)
        after = unit.record(after, change)
        event_id = self._ids.text7()
        if isinstance(step, Ask):
            unit.command(commands.query(after, step.request, event_id, now_us), trace)
        elif isinstance(step, SendAgain):
            unit.command(commands.again(after, step.request, event_id, now_us), trace)
        return step

    def _fact(self, order: Order, step: Step, now_us: int) -> Fact:
        if isinstance(step, Nothing):
            return NextAttempt(at_us=None)
        if isinstance(step, GiveUp):
            return _given_up(step)
        assert isinstance(step, Ask | SendAgain)
        # Nothing noted: it is not known when the request was sent last, so as far as is known it was now.
        doubt = doubt_of(order) or Doubt(request=step.request, sent_us=now_us)
        doubt = doubt.asked() if isinstance(step, Ask) else doubt.sent_again(now_us)
        code = reasons.OUTCOME_UNKNOWN
        said = order.reason if order.reason is not None and doubt_of(order) is not None else Why(code.code, code.text)
        return NextAttempt(
            at_us=next_attempt_us(now_us, doubt.asks, self._ids.random), reason=doubt.why(said.code, said.text)
        )


def _given_up(step: GiveUp) -> Fact:
    if step.request > 1:
        return RequestRejected(request=step.request, reason=Why(reasons.GIVEN_UP.code, reasons.GIVEN_UP.text))
    code = reasons.NOT_AFTER_PASSED if step.event is Event.TOO_LATE else reasons.GIVEN_UP
    return Sent(request=1, outcome=Outcome.UNSENT, event=step.event, reason=Why(code.code, code.text))


def _name(before: Order, after: Order, step: Step) -> str:
    if not isinstance(step, GiveUp):
        return _STEPS[type(step)]
    if after.status is not before.status:
        return NAMES[after.status]
    return "OrderCancelRejected" if before.pending is Pending.CANCEL else "OrderReplaceRejected"
