"""What may be said about an order, and the order after it was said: pure, a new value or the very same one.

Statuses change by the lifecycle's table only; a fill counts whatever the status. Two reports of one fill are told apart
by the caller, who knows which fills are booked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from order_service.domain.lifecycle import FINAL, OURS, TABLE, Event
from order_service.domain.order import Order, Outcome, Pending, Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The exchange's word about an order. For a fill `last_qty` is above 0 and the event is found from the quantity."""

    event: Event | None
    last_qty: int = 0
    last_micros: int = 0
    exchange_order_id: str | None = None
    venue_seq: int = 0
    reason: Why | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a sending of ours: `event` ends the order, else `outcome` says what is known."""

    request: int
    outcome: Outcome
    event: Event | None = None
    attempts: int = 0
    reason: Why | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRejected:
    """The exchange did not do what our n-th request asked for; the order lives on unchanged."""

    request: int
    reason: Why


Fact = Report | Sent | CancelRejected


def apply(order: Order, fact: Fact, at_us: int) -> Order:
    """The order after the fact: a new value with the next version, or the very same one when nothing changed."""
    if isinstance(fact, Report):
        after = _reported(order, fact)
    elif isinstance(fact, CancelRejected):
        after = _rejoined(order, fact.request, fact.reason)
    elif fact.request > 1:
        after = _request_sent(order, fact)
    else:
        after = _sent(order, fact)
    if after == order:
        return order
    after = _settled(after)
    return replace(after, version=order.version + 1, updated_us=max(at_us, order.updated_us))


def cancel_requested(order: Order, request: int, at_us: int) -> Order:
    """The order with our cancel, its n-th request, on its way. The caller has checked that it may."""
    assert not order.final
    assert order.pending is None
    assert request == order.requests + 1
    return replace(
        order,
        pending=Pending.CANCEL,
        requests=request,
        version=order.version + 1,
        updated_us=max(at_us, order.updated_us),
    )


def ended_by_us(order: Order) -> bool:
    """Final by our own conclusion: the exchange has said nothing about it."""
    return order.final and order.venue_seq == 0


def overfilled(order: Order) -> bool:
    return order.cum_qty > order.quantity


def _reported(order: Order, report: Report) -> Order:
    status = TABLE[order.status, Event.SURFACED] if ended_by_us(order) else order.status
    cum_qty = order.cum_qty + report.last_qty
    event = report.event
    if report.last_qty:
        event = Event.FILLED if cum_qty >= order.quantity else Event.PART_FILLED
    after = TABLE[status, event] if event else status
    changed = after is not order.status
    told = replace(
        order,
        status=after,
        outcome=Outcome.CONFIRMED,
        cum_qty=cum_qty,
        cum_notional_micros=order.cum_notional_micros + report.last_qty * report.last_micros,
        exchange_order_id=order.exchange_order_id or report.exchange_order_id,
        attempts=max(order.attempts, 1),
        reason=report.reason if changed or order.outcome is not Outcome.CONFIRMED else order.reason,
    )
    if told == order:
        return order  # a report that says nothing new leaves no trace, whatever its number
    return replace(told, venue_seq=max(order.venue_seq, report.venue_seq, 1))


def _sent(order: Order, sent: Sent) -> Order:
    """About the submit. Anything the exchange itself said is stronger than what the sender saw."""
    attempts = max(order.attempts, sent.attempts)
    if order.venue_seq > 0:
        return replace(order, attempts=attempts)
    if sent.outcome is Outcome.CONFIRMED and sent.event is None:
        status = TABLE[order.status, Event.SURFACED] if order.final else order.status
        reason = order.reason if order.outcome is Outcome.CONFIRMED and status is order.status else None
        return replace(order, status=status, outcome=Outcome.CONFIRMED, attempts=attempts, reason=reason)
    if order.outcome is Outcome.CONFIRMED and not order.final:
        return replace(order, attempts=attempts)
    if sent.event is not None:
        assert sent.event in OURS
        status = TABLE[order.status, sent.event]
        if status is order.status:
            return replace(order, attempts=attempts)
        return replace(order, status=status, outcome=sent.outcome, attempts=attempts, reason=sent.reason)
    if order.final or sent.outcome is order.outcome:
        return replace(order, attempts=attempts)
    return replace(order, outcome=sent.outcome, attempts=attempts, reason=sent.reason)


def _request_sent(order: Order, sent: Sent) -> Order:
    """About a later request (a cancel): one that will not reach the exchange is no longer pending."""
    if sent.event is not None or sent.outcome is Outcome.PARKED:
        return _rejoined(order, sent.request, sent.reason)
    if sent.outcome is Outcome.UNKNOWN and order.pending is not None and sent.request == order.requests:
        return replace(order, reason=sent.reason)
    return order


def _rejoined(order: Order, request: int, reason: Why | None) -> Order:
    if order.pending is None or request != order.requests:
        return order  # an answer to an earlier request, or the order ended meanwhile
    return replace(order, pending=None, reason=reason)


def _settled(order: Order) -> Order:
    """What follows from the status: nothing is open and nothing is awaited once the order is final."""
    if order.status in FINAL:
        return replace(order, leaves_qty=0, pending=None)
    return replace(order, leaves_qty=max(order.quantity - order.cum_qty, 0))
