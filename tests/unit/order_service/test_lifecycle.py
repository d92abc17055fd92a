"""The table of states, and what applying a fact does besides."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from order_service.domain import facts
from order_service.domain.facts import CancelRejected, Fact, Report, Sent
from order_service.domain.lifecycle import FINAL, TABLE, Event, Status
from order_service.domain.order import Order, Outcome, Pending, Why
from tests.unit.order_service.makers import NOW_US, order

LATE = Why("too_late", "The order is done.")


def run(start: Order, *said_of_it: Fact) -> Order:
    for fact in said_of_it:
        start = facts.apply(start, fact, NOW_US + 5)
    return start


def fill(qty: int, micros: int = 100, venue_seq: int = 2) -> Report:
    return Report(event=None, last_qty=qty, last_micros=micros, exchange_order_id="V", venue_seq=venue_seq)


def said(event: Event, venue_seq: int = 1, **changes: Any) -> Report:
    return Report(event=event, exchange_order_id="V", venue_seq=venue_seq, **changes)


NEW = said(Event.ACKNOWLEDGED)


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(itertools.product(Status, Event))


def test_no_event_of_the_exchange_takes_an_order_down_the_ladder() -> None:
    ladder = [Status.PENDING, Status.PLACED, Status.PARTIALLY_FILLED, Status.EXPIRED, Status.CANCELED]
    rung = {status: i for i, status in enumerate([*ladder, Status.REJECTED, Status.FILLED])}
    for (before, event), after in TABLE.items():
        if event is not Event.SURFACED and before in rung and before is not Status.FAILED:
            assert rung.get(after, 99) >= rung[before], (before, event)


def test_filled_is_the_end() -> None:
    assert {TABLE[Status.FILLED, event] for event in Event} == {Status.FILLED}


def test_acknowledged_then_filled_in_parts() -> None:
    after = run(order(quantity=10), NEW, fill(4, 100), fill(6, 110, 3))
    assert (after.status, after.cum_qty, after.leaves_qty, after.version) == (Status.FILLED, 10, 0, 4)
    assert after.cum_notional_micros == 4 * 100 + 6 * 110
    assert (after.outcome, after.exchange_order_id, after.attempts) == (Outcome.CONFIRMED, "V", 1)


def test_a_fill_before_the_acknowledgement() -> None:
    early = run(order(), fill(4))
    assert early.status is Status.PARTIALLY_FILLED
    assert run(early, NEW) is early


def test_a_late_fill_after_a_cancel_counts() -> None:
    canceled = run(order(), NEW, said(Event.CANCELED, 2))
    assert (canceled.status, canceled.leaves_qty) == (Status.CANCELED, 0)
    late = run(canceled, fill(4, venue_seq=3))
    assert (late.status, late.cum_qty, late.leaves_qty) == (Status.CANCELED, 4, 0)
    assert run(late, fill(6, venue_seq=4)).status is Status.FILLED


def test_an_overfill_is_recorded() -> None:
    over = run(order(quantity=10), fill(7), fill(7, venue_seq=3))
    assert (over.status, over.cum_qty, over.leaves_qty) == (Status.FILLED, 14, 0)
    assert facts.overfilled(over)


def test_the_very_same_order_comes_back_when_nothing_changed() -> None:
    placed = run(order(), NEW)
    for fact in (NEW, said(Event.ACKNOWLEDGED, 5), Sent(request=1, outcome=Outcome.UNKNOWN, reason=LATE)):
        assert run(placed, fact) is placed


def test_a_rejection_keeps_its_reason() -> None:
    rejected = run(order(), said(Event.REJECTED, reason=LATE))
    assert (rejected.status, rejected.reason, rejected.leaves_qty) == (Status.REJECTED, LATE, 0)
    assert run(rejected, NEW) is rejected


@pytest.mark.parametrize(
    ("sent", "status", "outcome"),
    [
        (Sent(request=1, outcome=Outcome.CONFIRMED, attempts=1), Status.PENDING, Outcome.CONFIRMED),
        (Sent(request=1, outcome=Outcome.UNKNOWN, reason=LATE), Status.PENDING, Outcome.UNKNOWN),
        (Sent(request=1, outcome=Outcome.PARKED, reason=LATE), Status.PENDING, Outcome.PARKED),
        (Sent(request=1, outcome=Outcome.CONFIRMED, event=Event.REFUSED), Status.REJECTED, Outcome.CONFIRMED),
        (Sent(request=1, outcome=Outcome.UNSENT, event=Event.TOO_LATE), Status.EXPIRED, Outcome.UNSENT),
        (Sent(request=1, outcome=Outcome.UNSENT, event=Event.GIVEN_UP), Status.FAILED, Outcome.UNSENT),
    ],
)
def test_what_became_of_the_submit(sent: Sent, status: Status, outcome: Outcome) -> None:
    after = run(order(), sent)
    assert (after.status, after.outcome) == (status, outcome)
    assert after.final == (status in FINAL)
    # The exchange's own word is stronger, before and after.
    for said_of_it in ((sent, NEW), (NEW, sent)):
        heard = run(order(), *said_of_it)
        assert (heard.status, heard.outcome, heard.leaves_qty) == (Status.PLACED, Outcome.CONFIRMED, 10)


def test_unknown_until_the_exchange_speaks() -> None:
    unknown = run(order(), Sent(request=1, outcome=Outcome.UNKNOWN, attempts=3, reason=LATE))
    assert (unknown.reason, unknown.attempts) == (LATE, 3)
    assert run(unknown, NEW).reason is None


def canceling() -> Order:
    return facts.cancel_requested(run(order(), NEW), 2, NOW_US + 6)


def test_a_cancel_is_pending_until_it_is_answered() -> None:
    asked = canceling()
    assert (asked.status, asked.pending, asked.requests) == (Status.PLACED, Pending.CANCEL, 2)
    done = run(asked, said(Event.CANCELED, 2))
    assert (done.status, done.pending) == (Status.CANCELED, None)


def test_a_rejected_cancel_leaves_the_order_as_it_was() -> None:
    after = run(canceling(), CancelRejected(request=2, reason=LATE))
    assert (after.status, after.pending, after.reason) == (Status.PLACED, None, LATE)


def test_an_answer_to_an_earlier_request_changes_nothing() -> None:
    first = run(canceling(), CancelRejected(request=2, reason=LATE))
    second = facts.cancel_requested(first, 3, NOW_US + 7)
    assert run(second, CancelRejected(request=2, reason=LATE)) is second


@pytest.mark.parametrize(
    ("sent", "pending"),
    [
        (Sent(request=2, outcome=Outcome.CONFIRMED), Pending.CANCEL),
        (Sent(request=2, outcome=Outcome.UNKNOWN, reason=LATE), Pending.CANCEL),
        (Sent(request=2, outcome=Outcome.PARKED, reason=LATE), None),
        (Sent(request=2, outcome=Outcome.CONFIRMED, event=Event.REFUSED, reason=LATE), None),
        (Sent(request=2, outcome=Outcome.UNSENT, event=Event.GIVEN_UP, reason=LATE), None),
    ],
)
def test_what_became_of_the_cancel_is_not_about_the_order(sent: Sent, pending: Pending | None) -> None:
    after = run(canceling(), sent)
    assert (after.status, after.outcome, after.pending) == (Status.PLACED, Outcome.CONFIRMED, pending)


def test_a_fill_that_completes_ends_the_pending_cancel() -> None:
    after = run(canceling(), fill(10))
    assert (after.status, after.pending) == (Status.FILLED, None)
