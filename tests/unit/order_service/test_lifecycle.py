"""The table of states, and what applying a fact does besides."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from order_service.domain import facts
from order_service.domain.facts import Fact, Report, RequestRejected, Sent, Terms, Unknown
from order_service.domain.lifecycle import ENDS, FINAL, TABLE, Event, Status, status_of
from order_service.domain.order import Order, Outcome, Pending, Why
from tests.unit.order_service.makers import NOW_US, order

LATE = Why("too_late", "The order is done.")


def run(start: Order, *said_of_it: Fact) -> Order:
    for fact in said_of_it:
        start = facts.apply(start, fact, NOW_US + 5)
    return start


def fill(qty: int, micros: int = 100, venue_seq: int = 2) -> Report:
    return Report(
        event=Event.TRADED,
        traded_qty=qty,
        traded_notional_micros=qty * micros,
        exchange_order_id="V",
        venue_seq=venue_seq,
    )


def said(event: Event, venue_seq: int = 1, **changes: Any) -> Report:
    return Report(event=event, exchange_order_id="V", venue_seq=venue_seq, **changes)


NEW = said(Event.ACKNOWLEDGED)


def unknown(request: int = 1, **changes: Any) -> Unknown:
    values = {"heard_us": NOW_US, "next_us": NOW_US + 7, "reason": LATE, **changes}
    return Unknown(request=request, **values)


STANDINGS = (Status.PENDING, Status.HELD, Status.PLACED, *sorted(ENDS))


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(itertools.product(STANDINGS, Event))
    assert set(TABLE.values()) <= set(STANDINGS)


def test_no_event_of_the_exchange_takes_an_order_down_the_ladder() -> None:
    ladder = [Status.PENDING, Status.PLACED, Status.EXPIRED, Status.CANCELED, Status.REJECTED]
    rung = {standing: i for i, standing in enumerate(ladder)}
    for (before, event), after in TABLE.items():
        if event is not Event.SURFACED and before in rung:
            assert rung.get(after, 99) >= rung[before], (before, event)


@pytest.mark.parametrize(
    ("standing", "cum_qty", "status"),
    [
        (Status.PLACED, 0, Status.PLACED),
        (Status.PLACED, 1, Status.PARTIALLY_FILLED),
        (Status.PLACED, 10, Status.FILLED),
        (Status.PENDING, 1, Status.PARTIALLY_FILLED),
        (Status.CANCELED, 9, Status.CANCELED),
        (Status.CANCELED, 10, Status.FILLED),
        (Status.REJECTED, 11, Status.FILLED),
    ],
)
def test_the_status_follows_from_standing_and_fills(standing: Status, cum_qty: int, status: Status) -> None:
    assert status_of(standing, cum_qty, 10) is status


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
    for fact in (NEW, said(Event.ACKNOWLEDGED, 5), unknown()):
        assert run(placed, fact) is placed


def test_a_rejection_keeps_its_reason() -> None:
    rejected = run(order(), said(Event.REJECTED, reason=LATE))
    assert (rejected.status, rejected.reason, rejected.leaves_qty) == (Status.REJECTED, LATE, 0)
    assert run(rejected, NEW) is rejected


@pytest.mark.parametrize(
    ("sent", "status", "outcome"),
    [
        (Sent(request=1, outcome=Outcome.CONFIRMED, attempts=1), Status.PENDING, Outcome.CONFIRMED),
        (unknown(), Status.PENDING, Outcome.UNKNOWN),
        (Sent(request=1, outcome=Outcome.PARKED, reason=LATE), Status.PENDING, Outcome.PARKED),
        (Sent(request=1, outcome=Outcome.CONFIRMED, event=Event.REFUSED), Status.REJECTED, Outcome.CONFIRMED),
        (Sent(request=1, outcome=Outcome.UNSENT, event=Event.TOO_LATE), Status.EXPIRED, Outcome.UNSENT),
        (Sent(request=1, outcome=Outcome.UNSENT, event=Event.GIVEN_UP), Status.FAILED, Outcome.UNSENT),
    ],
)
def test_what_became_of_the_submit(sent: Fact, status: Status, outcome: Outcome) -> None:
    after = run(order(), sent)
    assert (after.status, after.outcome) == (status, outcome)
    assert after.final == (status in FINAL)
    # The exchange's own word is stronger, before and after.
    for said_of_it in ((sent, NEW), (NEW, sent)):
        heard = run(order(), *said_of_it)
        assert (heard.status, heard.outcome, heard.leaves_qty) == (Status.PLACED, Outcome.CONFIRMED, 10)


def test_unknown_until_the_exchange_speaks() -> None:
    found = run(order(), unknown(attempts=3))
    assert found.reason is not None
    assert (found.reason.code, found.attempts, found.next_attempt_us) == (LATE.code, 3, NOW_US + 7)
    known = run(found, NEW)
    assert (known.reason, known.next_attempt_us) == (None, None)


def test_a_conclusion_of_ours_is_withdrawn_when_the_exchange_speaks() -> None:
    given_up = run(order(), Sent(request=1, outcome=Outcome.UNSENT, event=Event.GIVEN_UP))
    surfaced = run(given_up, fill(4))
    assert (surfaced.status, surfaced.leaves_qty, surfaced.outcome) == (
        Status.PARTIALLY_FILLED,
        6,
        Outcome.CONFIRMED,
    )


def canceling() -> Order:
    return facts.cancel_requested(run(order(), NEW), 2, NOW_US + 6)


def test_a_cancel_is_pending_until_it_is_answered() -> None:
    asked = canceling()
    assert (asked.status, asked.pending, asked.requests) == (Status.PLACED, Pending.CANCEL, 2)
    done = run(asked, said(Event.CANCELED, 2))
    assert (done.status, done.pending) == (Status.CANCELED, None)


def test_a_rejected_cancel_leaves_the_order_as_it_was() -> None:
    after = run(canceling(), RequestRejected(request=2, reason=LATE))
    assert (after.status, after.pending, after.reason) == (Status.PLACED, None, LATE)


def test_an_answer_to_an_earlier_request_changes_nothing() -> None:
    first = run(canceling(), RequestRejected(request=2, reason=LATE))
    second = facts.cancel_requested(first, 3, NOW_US + 7)
    assert run(second, RequestRejected(request=2, reason=LATE)) is second


@pytest.mark.parametrize(
    ("sent", "pending"),
    [
        (Sent(request=2, outcome=Outcome.CONFIRMED), Pending.CANCEL),
        (unknown(2), Pending.CANCEL),
        (Sent(request=2, outcome=Outcome.PARKED, reason=LATE), None),
        (Sent(request=2, outcome=Outcome.CONFIRMED, event=Event.REFUSED, reason=LATE), None),
        (Sent(request=2, outcome=Outcome.UNSENT, event=Event.GIVEN_UP, reason=LATE), None),
    ],
)
def test_what_became_of_the_cancel_is_not_about_the_order(sent: Fact, pending: Pending | None) -> None:
    after = run(canceling(), sent)
    assert (after.status, after.outcome, after.pending) == (Status.PLACED, Outcome.CONFIRMED, pending)


def test_a_full_fill_leaves_the_cancel_to_be_answered() -> None:
    """The fill may be busted yet; the exchange answers the cancel in any case."""
    filled = run(canceling(), fill(10))
    assert (filled.status, filled.pending) == (Status.FILLED, Pending.CANCEL)
    answered = run(filled, RequestRejected(request=2, reason=LATE))
    assert (answered.status, answered.pending, answered.reason) == (Status.FILLED, None, LATE)


def test_a_note_about_the_cancel_outlives_a_fill_but_not_its_answer() -> None:
    doubtful = run(canceling(), unknown(2))
    assert doubtful.next_attempt_us == NOW_US + 7
    filling = run(doubtful, fill(4))
    assert (filling.reason, filling.next_attempt_us) == (doubtful.reason, NOW_US + 7)
    answered = run(filling, RequestRejected(request=2, reason=LATE))
    assert (answered.reason, answered.next_attempt_us) == (LATE, None)


def replacing(quantity: int = 20, micros: int = 700) -> Order:
    return facts.replace_requested(run(order(quantity=10), NEW), 2, quantity, micros, NOW_US + 6)


def replaced(of: Order, quantity: int, micros: int, venue_seq: int, request: int = 2) -> Report:
    terms = Terms(
        request=request, quantity=quantity, amount_micros=micros, cl_ord_id=f"C-{request}", replaces=of.cl_ord_id
    )
    return Report(event=Event.ACKNOWLEDGED, terms=terms, exchange_order_id="V", venue_seq=venue_seq)


def test_a_replace_holds_once_the_exchange_says_so() -> None:
    asked = replacing()
    assert (asked.quantity, asked.asked_quantity, asked.asked_micros) == (10, 20, 700)
    after = run(asked, replaced(asked, 20, 700, 2))
    assert (after.quantity, after.amount_micros, after.leaves_qty) == (20, 700, 20)
    assert (after.pending, after.asked_quantity, after.asked_micros) == (None, None, None)
    assert (after.cl_ord_id, after.replaces) == ("C-2", asked.cl_ord_id)


def test_of_two_replaces_the_later_holds_in_whatever_order_they_are_told() -> None:
    first, second = replaced(replacing(), 20, 700, 2), replaced(replacing(), 30, 800, 5, request=3)
    for told in ((first, second), (second, first)):
        after = run(order(), NEW, *told)
        assert (after.quantity, after.amount_micros, after.cl_ord_id) == (30, 800, "C-3")


def test_a_replace_down_to_what_is_filled_fills_the_order_and_one_up_opens_it_again() -> None:
    partly = run(replacing(), fill(6))
    down = run(partly, replaced(partly, 6, 700, 3))
    assert (down.status, down.leaves_qty) == (Status.FILLED, 0)
    up = run(down, replaced(partly, 9, 700, 4, request=3))
    assert (up.status, up.leaves_qty) == (Status.PARTIALLY_FILLED, 3)


def test_more_than_ordered_is_no_overfill_while_more_is_asked_for() -> None:
    assert not facts.overfilled(run(replacing(20), fill(15)))
    assert facts.overfilled(run(replacing(20), fill(25)))


def test_a_bust_opens_the_order_again_unless_it_had_ended() -> None:
    filled = run(order(quantity=10), NEW, fill(10))
    bust = Report(event=Event.TRADED, traded_qty=-4, traded_notional_micros=-400, venue_seq=3)
    assert (run(filled, bust).status, run(filled, bust).leaves_qty) == (Status.PARTIALLY_FILLED, 4)
    ended = run(filled, said(Event.CANCELED, 4))
    assert ended.status is Status.FILLED
    assert (run(ended, bust).status, run(ended, bust).leaves_qty) == (Status.CANCELED, 0)
