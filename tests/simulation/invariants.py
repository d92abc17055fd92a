"""What must hold whatever happened, checked from outside: our books against the exchange's journal and against
themselves. Each check gives its findings in words; no finding means that it holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.contracts import BLOCKED_BY, OrderEvent, cl_ord_id
from infra.dlq.letters import DeadLetter
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution
from order_service.domain.ledger import CASH, HOUSE
from order_service.domain.lifecycle import FINAL, Status
from order_service.domain.order import Order, Outcome
from order_service.store.unit import EventRow, LedgerRow
from tests.simulation.truth import AtVenue, Truth

# What a venue that forgot everything makes us find. (An open order that is gone is `explained` by it.)
_OF_LOST_MEMORY = {"fill_missing_at_venue", "position", "cash", "status"}
# Ends of an order that the exchange never had, and what must be known of its sending.
NEVER_THERE = {Status.EXPIRED, Status.FAILED, Status.REJECTED}


@dataclass(slots=True)
class Ours:
    """Everything of ours at the end. `told` are the orders that clients hold a 201 for, by (account, key)."""

    told: Mapping[tuple[int, str], str]
    orders: Mapping[str, Order]
    histories: Mapping[str, Sequence[EventRow]]
    executions: Sequence[Execution]
    ledger: Sequence[LedgerRow]
    breaks: Sequence[Break]
    differences: Sequence[Break]
    rebuilt: Sequence[str]
    letters: Sequence[DeadLetter]
    published: Sequence[OrderEvent]


@dataclass(slots=True)
class Excuses:
    """What was done to the system, and so which findings need no further explanation. `tampered`: a report was told
    with wrong numbers; `garbage`: unreadable messages that were thrown in."""

    tampered: bool = False
    overfilled: bool = False
    garbage: int = 0


@dataclass(slots=True)
class _Case:
    ours: Ours
    truth: Truth
    excuses: Excuses
    blocked: set[str] = field(default_factory=set)


def findings(ours: Ours, truth: Truth, excuses: Excuses) -> list[str]:
    case = _Case(ours, truth, excuses)
    checks = (_kept, _once_at_venue, _same_state, _same_fills, _ledger, _clearing, _events, _breaks, _dead_letters)
    return [f"{check.__name__.strip('_')}: {text}" for check in checks for text in check(case)]


# -- the checks --------------------------------------------------------------------------------------------------------


def _kept(case: _Case) -> Iterator[str]:
    """No accepted order is lost, no key made two orders, and nobody's order exists that was not asked for."""
    ours = case.ours
    for (account, key), order_id in ours.told.items():
        order = ours.orders.get(order_id)
        if order is None:
            yield f"order {order_id} (account {account}, key {key}) was accepted and is lost"
        elif (order.account_id, order.idempotency_key) != (account, key):
            yield f"order {order_id} was told to {account}/{key} but is {order.account_id}/{order.idempotency_key}"
    for order in ours.orders.values():
        if (order.account_id, order.idempotency_key) not in ours.told:
            yield f"order {order.id} exists, but nobody was told of it"
    keys = Counter((order.account_id, order.idempotency_key) for order in ours.orders.values())
    yield from (f"key {key} made {count} orders" for key, count in keys.items() if count > 1)


def _once_at_venue(case: _Case) -> Iterator[str]:
    for order_id, known in case.truth.orders.items():
        if case.truth.doubled(order_id):
            yield f"order {order_id} is at the venue {len(known)} times: {[one.cl_ord_ids for one in known]}"
        if order_id not in case.ours.orders and not all(one.stray for one in known):
            yield f"the venue has order {order_id}, which we do not have and nobody else sent"


def _same_state(case: _Case) -> Iterator[str]:
    for order in case.ours.orders.values():
        if case.truth.forgotten(order.id):
            continue  # what the venue forgot may have been traded, and may be traded again
        if (there := case.truth.present(order.id)) is not None:
            yield from (f"order {order.id}: {text}" for text in _against_venue(order, there))
        else:
            yield from (f"order {order.id}: {text}" for text in _never_there(order))


def _against_venue(order: Order, there: AtVenue) -> Iterator[str]:
    last = there.last
    if order.status is not there.status:
        yield f"we say {order.status}, the venue {there.status} ({last.order_status}, {last.cum_qty}/{last.quantity})"
    if order.pending is not None or order.outcome is not Outcome.CONFIRMED:
        yield f"it is still open: pending {order.pending}, outcome {order.outcome}, reason {order.reason}"
    if order.next_attempt_us is not None:
        yield "it is confirmed, and still chased"
    if (order.quantity, order.amount_micros) != (last.quantity, last.limit_micros):
        yield f"we say {order.quantity} at {order.amount_micros}, the venue {last.quantity} at {last.limit_micros}"
    leaves = 0 if order.final else max(order.quantity - order.cum_qty, 0)
    if order.leaves_qty != leaves:
        yield f"{order.leaves_qty} leaves, of {order.cum_qty}/{order.quantity} {order.status}"


def _never_there(order: Order) -> Iterator[str]:
    """The exchange never had it: it must have ended, by our own word, with a reason, and without a trade."""
    if order.outcome is Outcome.PARKED:
        return
    if order.status not in NEVER_THERE:
        yield f"the venue never had it, we say {order.status} (outcome {order.outcome}, reason {order.reason})"
    elif order.reason is None or not order.reason.code:
        yield f"{order.status} without a reason"
    if order.cum_qty or order.cum_notional_micros or order.leaves_qty:
        yield f"{order.cum_qty} traded and {order.leaves_qty} left, which the venue never had"


def _same_fills(case: _Case) -> Iterator[str]:
    """Our executions are the venue's, busts and corrections included; each order's quantities are their sum."""
    ours: defaultdict[str, dict[tuple[str, int], tuple[str, str | None, int, int]]] = defaultdict(dict)
    for one in case.ours.executions:
        place = (one.key.exec_id, one.key.venue_seq)
        if place in ours[one.key.order_id]:
            yield f"order {one.key.order_id}: execution {place} is booked twice"
        ours[one.key.order_id][place] = one.terms
    for order_id, known in case.truth.orders.items():
        for there in known:
            for fill in there.executions:
                found = ours[order_id].pop((fill.exec_id, fill.venue_seq), None)
                terms = (fill.kind, fill.exec_ref_id, fill.quantity, fill.micros)
                if found != terms and not (found is None and there.life < case.truth.lives):
                    yield f"order {order_id}: the venue traded {fill}, we have {found}"
        order = case.ours.orders.get(order_id)
        if order is not None and not case.truth.forgotten(order_id):
            traded = known[-1].traded()
            if (order.cum_qty, order.cum_notional_micros) != traded:
                yield f"order {order_id}: {order.cum_qty} for {order.cum_notional_micros}, the venue traded {traded}"
    for order_id, left in ours.items():
        yield from (f"order {order_id}: the venue never traded {place} {terms}" for place, terms in left.items())


def _ledger(case: _Case) -> Iterator[str]:
    """Our own books agree with themselves. (Each transfer is balanced, so each asset sums to zero, the house
    included.)"""
    for found in case.ours.differences:
        yield f"{found.kind} {found.subject}: {dict(found.ours)} against {dict(found.theirs)} ({found.proposal})"
    for row in case.ours.ledger:
        if row.transfer.amount <= 0 or row.transfer.source == row.transfer.target:
            yield f"{row.event_id}/{row.line} is no transfer: {row.transfer}"


def _clearing(case: _Case) -> Iterator[str]:
    """What the house cleared with the exchange is what the exchange traded with us, strays included."""
    booked: Counter[str] = Counter()
    for row in case.ours.ledger:
        transfer = row.transfer
        for book, sign in ((transfer.target, 1), (transfer.source, -1)):
            if (book.account_id, book.name) == (HOUSE, "clearing"):
                booked[transfer.asset] += sign * transfer.amount
    traded: Counter[str] = Counter()
    for known in case.truth.orders.values():
        for there in known:
            if there.life < case.truth.lives:
                return  # what a forgotten life traded may never have been told
            shares, cash = there.traded()
            sign = 1 if there.last.side == "BUY" else -1
            traded[CASH] += sign * cash
            traded[there.last.symbol or ""] -= sign * shares
    for asset in sorted({*booked, *traded}):
        if booked[asset] != traded[asset]:
            yield f"{booked[asset]} {asset} is cleared, the venue's trades come to {traded[asset]}"


def _events(case: _Case) -> Iterator[str]:
    """Every change is one event, versions and account sequences have no holes, and each was published."""
    yield from (f"a rebuilt order differs: {text}" for text in case.ours.rebuilt)
    sequences: defaultdict[int, list[int]] = defaultdict(list)
    stored: set[str] = set()
    for order_id, events in case.ours.histories.items():
        versions = [event.version for event in events]
        order = case.ours.orders.get(order_id)
        if order is None or versions != list(range(1, order.version + 1)):
            yield f"order {order_id}: versions {versions} of {order and order.version}"
        for event in events:
            sequences[event.account_id].append(event.account_seq)
            stored.add(event.event_id)
    for account, numbers in sequences.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield f"account {account}: its events are numbered {sorted(numbers)}"
    published = {event.event_id for event in case.ours.published}
    if published != stored:
        yield f"{len(stored - published)} events were never published, {len(published - stored)} are of nobody"
    yield from _in_order(case.ours.published)


def _in_order(published: Iterable[OrderEvent]) -> Iterator[str]:
    """The first time that each event of an account was published, their numbers rise by one."""
    reached: Counter[int] = Counter()
    for event in published:
        if event.account_seq > reached[event.account_id] + 1:
            yield f"account {event.account_id}: event {event.account_seq} came after {reached[event.account_id]}"
        reached[event.account_id] = max(reached[event.account_id], event.account_seq)


def _breaks(case: _Case) -> Iterator[str]:
    """Each break is explained by something that was done, and everything that must be listed is."""
    strays = {order_id for order_id, known in case.truth.orders.items() if all(one.stray for one in known)}
    lost = case.truth.lives > 1
    listed: defaultdict[str, set[str]] = defaultdict(set)
    for found in case.ours.breaks:
        listed[found.kind].add(found.order_id or found.subject)
        explained = (
            found.state in ("repaired", "explained")
            or (found.kind in ("unknown_order_fill", "missing_here") and _names(found, strays))
            or (found.kind == "exec_conflict" and case.excuses.tampered)
            or (found.kind == "overfill" and case.excuses.overfilled)
            or (lost and found.kind in _OF_LOST_MEMORY)
            or (found.kind == "overfill" and case.truth.forgotten(found.subject))
        )
        if not explained:
            yield f"{found.kind} {found.subject} is {found.state}: {dict(found.ours)} / {dict(found.theirs)}"
    fills = [found for found in case.ours.breaks if found.kind == "unknown_order_fill"]
    for stray in strays:
        present = case.truth.present(stray)
        if present is not None and not any(_names(found, {stray}) for found in fills):
            yield f"the stray fill of {stray} is not listed"


def _names(found: Break, ids: set[str]) -> bool:
    text = f"{found.order_id} {found.subject}"
    return any(one in text or cl_ord_id(one, 1).partition("-")[0] in text for one in ids)


def _dead_letters(case: _Case) -> Iterator[str]:
    """Each parked message is one that we made unreadable, a command behind one, or a report with wrong numbers."""
    # One that was parked just before a crash comes again and is parked again.
    parked = {(letter.topic, letter.partition, letter.offset): letter for letter in case.ours.letters}
    codes = Counter(letter.code for letter in parked.values())
    malformed, thrown = codes.pop("malformed", 0), case.excuses.garbage
    blocked = codes.pop(BLOCKED_BY, 0) if thrown else 0
    if not malformed <= thrown <= malformed + blocked:
        yield f"{malformed} unreadable messages and {blocked} behind them are parked, {thrown} were thrown in"
    if case.excuses.tampered:
        codes.pop("exec_id_conflict", 0)
    for code, count in codes.items():
        texts = [letter.text for letter in case.ours.letters if letter.code == code][:2]
        yield f"{count} messages are parked as {code}: {texts}"


def unfinished(orders: Iterable[Order]) -> list[Order]:
    """What the world still has to wait for: nobody knows yet, or has answered."""
    return [
        order
        for order in orders
        if order.pending is not None
        or (order.status not in FINAL and order.outcome not in (Outcome.CONFIRMED, Outcome.PARKED))
    ]
