"""Whatever order reports come in, and however often: the end is that of the sorted ones."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.contracts import Reason, Report
from order_service.domain.lifecycle import FINAL, Status
from order_service.domain.order import Order
from order_service.reports.apply import Heard, decide, heard
from order_service.store.unit import Account, Unit
from tests.unit.order_service.makers import NOW_US, fill, new_ids, order, outcome, report

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
ENDS = (None, "CANCELED", "EXPIRED", "REJECTED")


@st.composite
def histories(draw: st.DrawFn) -> tuple[Order, list[Report]]:
    """What an exchange may say of one order, in its own numbering: fills after an end are trades that crossed it."""
    start = order(quantity=draw(st.integers(1, 50)))
    reports = [report(start, "NEW", venue_seq=1)]
    end, at = draw(st.sampled_from(ENDS)), draw(st.integers(0, 6))
    for i in range(draw(st.integers(0, 6))):
        if end and i == at:
            reports.append(report(start, end, venue_seq=len(reports) + 1))
            end = None
        qty, micros = draw(st.integers(1, 20)), draw(st.integers(1, 10**9))
        reports.append(fill(start, qty, micros, len(reports) + 1))
    if end:
        reports.append(report(start, end, venue_seq=len(reports) + 1))
    sent = draw(st.lists(st.tuples(st.sampled_from(["accepted", "unknown"]), st.integers(1, 3)), max_size=2))
    return start, reports + [outcome(start, word, attempts=attempts) for word, attempts in sent]


def told(start: Order, reports: list[Report]) -> Unit:
    unit = Unit(accounts={1: Account(1, "active", 1)})
    unit.loaded(start)
    for one in reports:
        said = heard(one)
        assert isinstance(said, Heard)
        decide(unit, said, NOW_US + 1, TRACE, new_ids())
    return unit


def essence(unit: Unit) -> tuple[object, ...]:
    (found,) = unit.orders.values()
    outcome_counts = found.venue_seq > 0  # between outcomes alone the later one counts
    return (
        found.status,
        found.cum_qty,
        found.leaves_qty,
        found.cum_notional_micros,
        found.exchange_order_id,
        found.attempts,
        outcome_counts and found.outcome,
    )


@settings(max_examples=300, deadline=None)
@given(histories(), st.integers(0, 2**32), st.integers(1, 3))
def test_order_and_repetition_do_not_matter(history: tuple[Order, list[Report]], seed: int, copies: int) -> None:
    start, reports = history
    shuffled = reports * copies
    random.Random(seed).shuffle(shuffled)
    sorted_once, mixed = told(start, reports), told(start, shuffled)
    assert essence(mixed) == essence(sorted_once)
    fills = [r for r in reports if r.exec_type == "TRADE"]
    (found,) = mixed.orders.values()
    assert found.cum_qty == sum(r.last_qty for r in fills)
    assert found.cum_notional_micros == sum(r.last_qty * r.last_micros for r in fills)
    assert len(mixed.executions) == len(fills)


@settings(max_examples=200, deadline=None)
@given(histories(), st.integers(0, 2**32))
def test_every_step_keeps_the_invariants(history: tuple[Order, list[Report]], seed: int) -> None:
    start, reports = history
    random.Random(seed).shuffle(reports)
    unit = told(start, reports)
    assert [e.version for e in unit.events] == list(range(2, 2 + len(unit.events)))
    assert len(unit.outbox) == len(unit.events)
    (found,) = unit.orders.values()
    assert found.version == 1 + len(unit.events)
    if found.status in FINAL:
        assert (found.leaves_qty, found.pending) == (0, None)
    else:
        assert found.leaves_qty == found.quantity - found.cum_qty
    assert (found.status is Status.FILLED) == (found.cum_qty >= found.quantity)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["NEW", "CANCELED", "EXPIRED", "REJECTED", "refused", "late", "given_up", "accepted"])),
    st.integers(0, 2**32),
)
def test_even_contradictions_end_the_same(words: list[str], seed: int) -> None:
    """A venue that says both canceled and rejected, a sender that gave up on what the venue has: one end, any order."""
    start = order()
    reports = [report(start, w, venue_seq=1) for w in words if w.isupper()]
    for word, said in (("refused", "refused"), ("given_up", "not_sent"), ("accepted", "accepted")):
        reports += [outcome(start, said)] * words.count(word)
    reports += [outcome(start, "not_sent", reason=Reason("not_after_passed"))] * words.count("late")
    shuffled = list(reports)
    random.Random(seed).shuffle(shuffled)
    first, second = (told(start, some).orders[start.id] for some in (reports, shuffled))
    assert first.status is second.status
