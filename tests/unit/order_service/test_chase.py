"""Chasing what nobody answers: the decision, and the whole circle of asking, believing and sending again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from msgspec import structs

from infra.clock import Ids, ManualClock
from infra.contracts import ORDERS, UNKNOWN_ORDER, Command, Reason, Report, Snapshot, decode
from order_service.chase.chase import Chase
from order_service.chase.plan import Ask, GiveUp, Nothing, SendAgain, Step, Wait, plan
from order_service.domain import facts, ledger
from order_service.domain.doubt import Doubt, Patience
from order_service.domain.lifecycle import Event, Status
from order_service.domain.order import Order, Outcome, Pending, Why
from order_service.reports.order_status import OrderStatus
from order_service.store.memory import MemoryOrders
from order_service.store.memory_watch import MemoryWatch
from order_service.store.unit import Want
from tests.unit.order_service.makers import BACK_OFFICE, NOW_US, change, fill, order, outcome, report

S = 1_000_000
PATIENCE = Patience(settle_us=10 * S, sends_max=3)
BELIEVED = Doubt(request=1, sent_us=NOW_US - 20 * S, missed_us=(NOW_US - 5 * S, NOW_US - 2 * S))


def unknown(doubt: Doubt | None = None, **changes: Any) -> Order:
    reason = Why("no_answer", "Nothing came back.") if doubt is None else doubt.why("no_answer", "Nothing came back.")
    values = {"outcome": Outcome.UNKNOWN, "next_attempt_us": NOW_US, "reason": reason, **changes}
    return order(**values)


def canceling(doubt: Doubt | None = None, **changes: Any) -> Order:
    placed = {"status": Status.PLACED, "standing": Status.PLACED, "venue_seq": 1, "requests": 2}
    return unknown(doubt, **{**placed, "outcome": Outcome.CONFIRMED, "pending": Pending.CANCEL, **changes})


REQUEST = Doubt(request=2, sent_us=BELIEVED.sent_us, missed_us=BELIEVED.missed_us)


@pytest.mark.parametrize(
    ("chased", "step"),
    [
        (order(), Nothing()),
        (order(status=Status.CANCELED, standing=Status.CANCELED, outcome=Outcome.UNKNOWN), Nothing()),
        (unknown(next_attempt_us=NOW_US + 1), Wait()),
        (unknown(next_attempt_us=None), Wait()),
        (unknown(), Ask(1)),
        (unknown(Doubt(request=1, sent_us=NOW_US)), Ask(1)),
        # Once is not enough, and neither is what was said too soon after the last sending.
        (unknown(Doubt(request=1, sent_us=0, missed_us=(NOW_US,))), Ask(1)),
        (unknown(Doubt(request=1, sent_us=NOW_US - 11 * S, missed_us=(NOW_US - 2 * S, NOW_US))), Ask(1)),
        (unknown(BELIEVED), SendAgain(1)),
        (unknown(BELIEVED, not_after_us=NOW_US), SendAgain(1)),
        (unknown(BELIEVED, not_after_us=NOW_US - 1), GiveUp(1, Event.TOO_LATE)),
        (unknown(BELIEVED, pending=Pending.CANCEL, requests=2), GiveUp(1, Event.GIVEN_UP)),
        (unknown(replace(BELIEVED, sends=3)), GiveUp(1, Event.GIVEN_UP)),
        (canceling(), Ask(2)),
        (canceling(REQUEST), SendAgain(2)),
        (canceling(REQUEST, status=Status.FILLED, cum_qty=10), SendAgain(2)),
        (canceling(REQUEST, not_after_us=NOW_US - 1), SendAgain(2)),
        (canceling(BELIEVED), Ask(2)),  # that was about the submit
    ],
)
def test_the_plan(chased: Order, step: Step) -> None:
    assert plan(chased, NOW_US, PATIENCE) == step


async def no_snapshot(_: Snapshot) -> None:
    raise AssertionError


@dataclass
class Circle:
    """The chase and the reports over one store. `answer` is the gateway with the exchange behind it."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_US * 1000))
    store: MemoryOrders = field(default_factory=MemoryOrders)
    commands: list[tuple[int, Command]] = field(default_factory=list)  # µs, command

    def __post_init__(self) -> None:
        ids = Ids(self.clock, 7)
        self.reports = OrderStatus(self.store, self.clock, ids, no_snapshot)
        self.chase = Chase(self.store, MemoryWatch(self.store), self.clock, ids, PATIENCE)
        self.ids = ids

    @property
    def now_us(self) -> int:
        return self.clock.now_ns() // 1000

    async def place(self, one: Order) -> None:
        want = Want(accounts=frozenset({one.account_id}))
        await self.store.write(BACK_OFFICE, want, lambda unit: unit.record(one, change(self.ids)))

    async def cancel(self, one: Order) -> None:
        asked = facts.cancel_requested(one, one.requests + 1, self.now_us)
        want = Want(orders=frozenset({one.id}))
        await self.store.write(BACK_OFFICE, want, lambda unit: unit.record(asked, change(self.ids)))

    async def found(self) -> Order:
        (one,) = self.store.orders.values()
        return one

    async def tell(self, *told: Report) -> None:
        await self.reports.apply([structs.replace(one, received_ns=self.clock.now_ns()) for one in told])

    async def live(self, seconds: int, answer: Callable[[Command], list[Report]]) -> None:
        """Second by second: what is due is chased, and what is sent is answered within the second."""
        for _ in range(seconds):
            known = len(self.store.outbox)
            await self.chase.once()
            sent: list[Command] = [
                decode(Command, row.payload.encode())
                for row in self.store.outbox[known:]
                if row.aggregatetype == ORDERS
            ]
            self.clock.advance(1)
            for command in sent:
                self.commands.append((self.now_us, command))
                await self.tell(*answer(command))


def never_heard_of(command: Command) -> list[Report]:
    request = int(command.cl_ord_id.rpartition("-")[2])
    reason = Reason(UNKNOWN_ORDER, "Never heard of it.")
    return [outcome(command.order_id, "unknown", request, reason=reason, command=command.kind)]


def silent(_: Command) -> list[Report]:
    return []


LOST = Reason("no_answer", "Nothing came back.")


async def test_what_the_exchange_never_got_is_sent_again_under_its_own_id() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(outcome(order(), "unknown", reason=LOST, command="submit", attempts=1))
    lost_us = circle.now_us

    def takes_the_second(command: Command) -> list[Report]:
        return [report(command.order_id, "NEW", venue_seq=1)] if command.kind != "query" else never_heard_of(command)

    await circle.live(60, takes_the_second)
    kinds = [command.kind for _, command in circle.commands]
    assert kinds[-1] == "submit_again"
    assert kinds.count("submit_again") == 1
    assert {command.cl_ord_id for _, command in circle.commands} == {order().cl_ord_id}
    assert circle.commands[-1][0] >= lost_us + PATIENCE.settle_us
    found = await circle.found()
    assert (found.status, found.outcome, found.reason, found.next_attempt_us) == (
        Status.PLACED,
        Outcome.CONFIRMED,
        None,
        None,
    )
    assert circle.store.accounts[1].cash.reserved == ledger.reserved(found).cash_micros


async def test_a_found_order_is_never_sent_again() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(outcome(order(), "unknown", reason=LOST, command="submit"))

    def has_it(command: Command) -> list[Report]:
        return [report(command.order_id, "NEW", venue_seq=1, source="query")]

    await circle.live(120, has_it)
    assert [command.kind for _, command in circle.commands] == ["query"]


async def test_a_silent_exchange_is_asked_less_and_less_and_sent_nothing() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(outcome(order(), "unknown", reason=LOST, command="submit"))
    await circle.live(1800, silent)
    assert {command.kind for _, command in circle.commands} == {"query"}
    assert 1800 / 60 <= len(circle.commands) <= 150
    found = await circle.found()
    assert (found.status, found.outcome) == (Status.PENDING, Outcome.UNKNOWN)
    assert found.reason is not None
    assert found.reason.code == LOST.code


async def test_what_came_too_late_to_be_sent_again_expires_and_releases() -> None:
    circle = Circle()
    await circle.place(order(not_after_us=NOW_US + 5 * S))
    await circle.tell(outcome(order(), "unknown", reason=LOST, command="submit"))
    await circle.live(60, never_heard_of)
    found = await circle.found()
    assert (found.status, found.outcome) == (Status.EXPIRED, Outcome.UNSENT)
    assert circle.store.accounts[1].cash.reserved == 0
    await circle.tell(report(found, "NEW", venue_seq=1))  # it was there all the time
    assert (await circle.found()).status is Status.PLACED


async def test_it_is_sent_a_few_times_and_then_given_up() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(outcome(order(), "unknown", reason=LOST, command="submit"))
    await circle.live(300, never_heard_of)
    sent_us = [us for us, command in circle.commands if command.kind == "submit_again"]
    assert len(sent_us) == PATIENCE.sends_max - 1
    assert all(later - earlier >= PATIENCE.settle_us for earlier, later in itertools.pairwise(sent_us))
    found = await circle.found()
    assert found.status is Status.FAILED
    assert found.reason is not None
    assert found.reason.code == "given_up"


async def test_a_cancel_that_nobody_answers_goes_again() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(report(order(), "NEW", venue_seq=1))
    await circle.cancel(await circle.found())
    await circle.tell(outcome(order(), "unknown", 2, reason=LOST, command="cancel"))

    def takes_the_second(command: Command) -> list[Report]:
        if command.kind == "query":
            return never_heard_of(command)
        return [report(command.order_id, "CANCELED", 2, venue_seq=2)]

    await circle.live(60, takes_the_second)
    asked = order().cl_ord_id[:-1] + "2"
    assert {command.cl_ord_id for _, command in circle.commands} == {asked}
    assert circle.commands[-1][1].kind == "cancel"
    assert circle.commands[-1][1].orig_cl_ord_id == order().cl_ord_id
    found = await circle.found()
    assert (found.status, found.pending, found.next_attempt_us) == (Status.CANCELED, None, None)


async def test_a_cancel_is_chased_to_its_answer_even_when_the_order_was_filled() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(report(order(), "NEW", venue_seq=1))
    await circle.cancel(await circle.found())
    await circle.tell(fill(order(), 10, 100, 2), outcome(order(), "unknown", 2, reason=LOST, command="cancel"))

    def refuses_the_second(command: Command) -> list[Report]:
        if command.kind == "query":
            return never_heard_of(command)
        return [report(command.order_id, None, 2, kind="cancel_reject", venue_seq=3, reason=Reason("too_late"))]

    await circle.live(60, refuses_the_second)
    found = await circle.found()
    assert (found.status, found.pending, found.next_attempt_us) == (Status.FILLED, None, None)


async def test_an_answer_told_twice_counts_once() -> None:
    circle = Circle()
    await circle.place(order())
    await circle.tell(outcome(order(), "unknown", reason=LOST, command="submit"))
    circle.clock.advance(30)
    miss = structs.replace(
        outcome(order(), "unknown", reason=Reason(UNKNOWN_ORDER), command="query"), received_ns=circle.clock.now_ns()
    )
    await circle.reports.apply([miss, miss])
    circle.clock.advance(60)
    assert plan(await circle.found(), circle.now_us, PATIENCE) == Ask(1)


def test_a_fill_answers_no_cancel_so_it_is_chased_on() -> None:
    waiting = canceling(Doubt(request=2, sent_us=NOW_US))
    fill = facts.Report(event=Event.TRADED, traded_qty=10, traded_notional_micros=10, venue_seq=2)
    filled = facts.apply(waiting, fill, NOW_US)
    assert (filled.status, filled.pending, filled.next_attempt_us) == (Status.FILLED, Pending.CANCEL, NOW_US)
    assert plan(filled, NOW_US, PATIENCE) == Ask(2)
