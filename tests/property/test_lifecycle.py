"""Whatever order reports come in, and however often: order and books end as with the sorted ones, each told once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.contracts import Reason, Report, cl_ord_id
from order_service.domain import ledger
from order_service.domain.executions import Execution
from order_service.domain.fees import fee_micros
from order_service.domain.ledger import Balance, Reserved
from order_service.domain.lifecycle import FINAL, Status
from order_service.domain.order import Order, Pending
from order_service.heard import heard
from order_service.reports.apply import decide
from order_service.store.unit import Account, Unit
from tests.unit.order_service.makers import NOW_US, fill, new_ids, order, outcome, report

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
PRICES = st.integers(1, 10**9)
QUANTITIES = st.integers(1, 60)
STEPS = st.sampled_from(["fill", "fill", "fill", "bust", "correct", "replace", "cancel", "end"])


@dataclass(slots=True)
class Exchange:
    """What an exchange says of one order, in its own numbering. A fill after an end crossed it; nothing else does."""

    order: Order
    reports: list[Report] = field(default_factory=list)
    live: bool = True
    quantity: int = 0
    micros: int | None = None
    newest: str = ""
    requests: int = 1
    pending: Pending | None = None
    asked: tuple[int | None, int | None] = (None, None)
    fills: list[str] = field(default_factory=list)

    def say(self, exec_type: str | None, request: int = 1, **fields: object) -> None:
        one = report(self.order, exec_type, request, venue_seq=len(self.reports) + 1, **fields)
        self.reports.append(one)

    def trade(self, quantity: int, micros: int) -> None:
        self.reports.append(fill(self.order, quantity, micros, len(self.reports) + 1))
        self.fills.append(f"E-{len(self.reports)}")

    def restate(self, draw: st.DrawFn, exec_type: str) -> None:
        if self.fills:
            ref, quantity, micros = draw(st.sampled_from(self.fills)), draw(QUANTITIES), draw(PRICES)
            self.say(exec_type, exec_ref_id=ref, last_qty=quantity, last_micros=micros)

    def asked_for(self, draw: st.DrawFn, pending: Pending) -> None:
        """A request of ours: granted, rejected, or not answered before all else is said; then it is the last one."""
        if self.pending is not None or not self.live:
            return
        self.requests += 1
        answer = draw(st.sampled_from(["granted", "granted", "rejected", "none"]))
        asked = (draw(QUANTITIES), draw(PRICES)) if pending is Pending.REPLACE else (None, None)
        if answer == "none":
            self.pending, self.asked = pending, asked
        elif answer == "rejected":
            self.say(None, self.requests, kind="cancel_reject", reason=Reason("too_late"))
        elif pending is Pending.CANCEL:
            self.say("CANCELED", self.requests)
            self.live = False
        else:
            (quantity, micros), previous = asked, self.newest
            self.newest = cl_ord_id(self.order.id, self.requests)
            self.say("REPLACED", self.requests, quantity=quantity, limit_micros=micros, orig_cl_ord_id=previous)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Order, list[Report]]:
    """An order with all our requests made, the last of them pending, and all that will be said of it."""
    start = order(
        order_type=draw(st.sampled_from(["buy", "sell"])),
        quantity=draw(QUANTITIES),
        fee_per_share_micros=draw(st.integers(0, 10_000)),
        fee_min_micros=draw(st.integers(0, 1_000_000)),
    )
    there = Exchange(start, newest=start.cl_ord_id)
    there.say("NEW")
    last: Pending | None = None
    for step in draw(st.lists(STEPS, max_size=8)):
        match step:
            case "fill":
                there.trade(draw(QUANTITIES), draw(PRICES))
            case "bust":
                there.restate(draw, "TRADE_CANCEL")
            case "correct":
                there.restate(draw, "TRADE_CORRECT")
            case "end" if there.live:
                there.say(draw(st.sampled_from(["CANCELED", "EXPIRED", "REJECTED"])))
                there.live = False
            case "replace" | "cancel":
                before = there.requests
                there.asked_for(draw, Pending(step))
                last = Pending(step) if there.requests > before else last
    sent = draw(st.lists(st.tuples(st.sampled_from(["accepted", "unknown"]), st.integers(1, 3)), max_size=2))
    outcomes = [outcome(start, word, attempts=attempts) for word, attempts in sent]
    if there.pending is not None and draw(st.booleans()):
        outcomes.append(outcome(start, "unknown", there.requests))
    quantity, micros = there.asked if there.pending is not None else (None, None)
    if last is Pending.REPLACE and there.pending is None:
        quantity, micros = draw(QUANTITIES), draw(PRICES)
    start = order(
        **{name: getattr(start, name) for name in ("order_type", "quantity", "fee_per_share_micros", "fee_min_micros")},
        leaves_qty=start.quantity,
        requests=there.requests,
        pending=last,
        asked_quantity=quantity,
        asked_micros=micros,
    )
    return start, there.reports + outcomes


def placed(start: Order) -> Unit:
    unit = Unit(accounts={1: Account(1, seq=1, open_orders=1)})
    unit.book(ledger.transfers(None, start), "placed", start.id, NOW_US)
    unit.loaded(start)
    return unit


def tell(unit: Unit, *reports: Report) -> None:
    for one in reports:
        decide(unit, heard(one), NOW_US + 1, TRACE, new_ids())


def told(start: Order, reports: list[Report]) -> Unit:
    unit = placed(start)
    tell(unit, *reports)
    return unit


def essence(unit: Unit) -> tuple[object, ...]:
    (found,) = unit.orders.values()
    account = unit.accounts[1]
    outcome_counts = found.venue_seq > 0  # between outcomes alone the later one counts
    return (
        (found.status, found.standing, found.pending, found.asked_quantity, found.asked_micros),
        (found.cum_qty, found.leaves_qty, found.cum_notional_micros),
        (found.quantity, found.amount_micros, found.cl_ord_id, found.replaces, found.terms_seq),
        (found.exchange_order_id, found.attempts, outcome_counts and found.outcome),
        (account.cash, account.open_orders, unit.position(1, found.symbol)),
        sorted((execution.key, execution.terms) for execution in unit.executions),
    )


@settings(max_examples=400, deadline=None)
@given(histories(), st.integers(0, 2**32), st.integers(1, 3))
def test_order_and_repetition_do_not_matter(history: tuple[Order, list[Report]], seed: int, copies: int) -> None:
    start, reports = history
    shuffled = reports * copies
    random.Random(seed).shuffle(shuffled)
    assert essence(told(start, shuffled)) == essence(told(start, reports))


def right_terms(reports: list[Report]) -> dict[str, tuple[int, int]]:
    """Each fill as the last word about it says."""
    fills: dict[str, tuple[int, int]] = {}
    for one in reports:  # as the exchange numbered them
        if one.exec_type == "TRADE":
            fills[one.exec_id or ""] = one.last_qty, one.last_micros
        elif one.exec_type == "TRADE_CORRECT":
            fills[one.exec_ref_id or ""] = one.last_qty, one.last_micros
        elif one.exec_type == "TRADE_CANCEL":
            fills[one.exec_ref_id or ""] = 0, 0
    return fills


@settings(max_examples=300, deadline=None)
@given(histories(), st.integers(0, 2**32))
def test_quantities_are_those_of_the_fills_as_they_stand(history: tuple[Order, list[Report]], seed: int) -> None:
    start, reports = history
    shuffled = list(reports)
    random.Random(seed).shuffle(shuffled)
    (found,) = told(start, shuffled).orders.values()
    fills = right_terms(reports).values()
    assert found.cum_qty == sum(quantity for quantity, _ in fills)
    assert found.cum_notional_micros == sum(quantity * micros for quantity, micros in fills)
    assert (found.status is Status.FILLED) == (found.cum_qty >= found.quantity)


def folded(unit: Unit) -> dict[tuple[str, str], int]:
    """(asset, book) of account 1, summed from the ledger."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in unit.ledger:
        move = row.transfer
        for book, amount in ((move.source, -move.amount), (move.target, move.amount)):
            if book.account_id == 1:
                sums[move.asset, book.name] += amount
    return {place: amount for place, amount in sums.items() if amount}


def balances(unit: Unit, symbol: str) -> dict[tuple[str, str], int]:
    held: dict[str, Balance] = {ledger.CASH: unit.accounts[1].cash, symbol: unit.position(1, symbol)}
    amounts = {
        (asset, name): getattr(balance, name)
        for asset, balance in held.items()
        for name in ("available", "reserved", "unsettled")
    }
    return {place: amount for place, amount in amounts.items() if amount}


def owed(found: Order, executions: list[Execution]) -> tuple[int, int]:
    """Unsettled shares and cash by what was traded: the order's fills as they stand, and the fee for them."""
    by_fill: dict[str, list[Execution]] = {}
    for one in executions:
        by_fill.setdefault(one.fill_id, []).append(one)
    shares = cash = 0
    for group in by_fill.values():
        quantity, micros = 0, 0
        has_fill = False
        for one in sorted(group, key=lambda one: one.key.venue_seq):
            has_fill = has_fill or one.kind == "fill"
            if has_fill:
                quantity, micros = (0, 0) if one.kind == "bust" else (one.last_qty, one.last_micros)
        shares, cash = shares + quantity, cash + quantity * micros
    sign = 1 if found.order_type == "buy" else -1
    return sign * shares, -sign * cash - fee_micros(shares, found.fee_per_share_micros, found.fee_min_micros)


@settings(max_examples=300, deadline=None)
@given(histories(), st.integers(0, 2**32))
def test_every_step_keeps_the_invariants(history: tuple[Order, list[Report]], seed: int) -> None:
    start, reports = history
    random.Random(seed).shuffle(reports)
    unit = placed(start)
    for one in reports:
        tell(unit, one)
        (found,) = unit.orders.values()
        held, cash = unit.position(1, found.symbol), unit.accounts[1].cash
        assert found.version == 1 + len(unit.events)
        assert unit.accounts[1].open_orders == (found.status not in FINAL)
        assert found.leaves_qty == (0 if found.status in FINAL else found.quantity - found.cum_qty)
        assert Reserved(cash.reserved, held.reserved) == ledger.reserved(found)
        assert (held.unsettled, cash.unsettled) == owed(found, unit.executions)
        assert folded(unit) == balances(unit, found.symbol)
        if found.status in FINAL and found.pending is None:
            assert found.next_attempt_us is None
        if found.status in FINAL - {Status.FILLED}:
            assert found.pending is None
    assert [event.version for event in unit.events] == list(range(2, 2 + len(unit.events)))
    assert len(unit.outbox) == len(unit.events)


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
