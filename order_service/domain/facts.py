"""What may be said about an order, and the order after it was said: pure, a new value or the very same one.

Standings change by the lifecycle's table only; a fill counts whatever the standing. What a report means for the
quantities (a fill, its bust or its correction, each once) is worked out from the order's executions beforehand
(`domain/executions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from order_service.domain.doubt import Doubt, doubt_of, is_note, request_in_doubt
from order_service.domain.lifecycle import ENDS, FINAL, OURS, TABLE, Event, status_of
from order_service.domain.order import Order, Outcome, Pending, Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """OrderQty and price after a replace, and the ClOrdIDs of the chain: what it is now, and what it replaced, if the
    exchange said."""

    request: int
    quantity: int
    amount_micros: int | None
    cl_ord_id: str
    replaces: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The exchange's word about an order. `traded_qty` and `traded_notional_micros` are what it adds to CumQty and to
    the notional: below 0 for a bust, 0 when the quantities stay as they are."""

    event: Event | None
    traded_qty: int = 0
    traded_notional_micros: int = 0
    terms: Terms | None = None
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
class Unknown:
    """Whether the exchange has our n-th request is not known: after a sending of it that ended at `heard_us`, or
    (`asked`) as the answer to a question, which may have been that it is `missed` there. `next_us` is when to look."""

    request: int
    heard_us: int
    next_us: int
    reason: Why
    asked: bool = False
    missed: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected:
    """The exchange did not do what our n-th request, a cancel or replace, asked for; the order lives on unchanged."""

    request: int
    reason: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class NextAttempt:
    """When the order is chased next, and with `reason` what is noted of its doubt by then; None when there is nothing
    to chase."""

    at_us: int | None
    reason: Why | None = None


Fact = Report | Sent | Unknown | RequestRejected | NextAttempt


def apply(order: Order, fact: Fact, at_us: int) -> Order:
    """The order after the fact: a new value with the next version, or the very same one when nothing changed."""
    match fact:
        case Report():
            after = _reported(order, fact)
        case RequestRejected():
            after = _rejoined(order, fact.request, fact.reason)
        case NextAttempt():
            after = order.changed(next_attempt_us=fact.at_us, reason=fact.reason or order.reason)
        case Unknown():
            after = _unknown(order, fact)
        case Sent() if fact.request > 1:
            after = _request_sent(order, fact)
        case Sent():
            after = _sent(order, fact)
    if after == order:
        return order
    return _next_version(after, order, at_us, _settled(after))


def cancel_requested(order: Order, request: int, at_us: int) -> Order:
    """The order with our cancel, its n-th request, on its way. The caller has checked that it may."""
    assert not order.final
    assert order.pending is None
    assert request == order.requests + 1
    return _next_version(order.changed(pending=Pending.CANCEL, requests=request), order, at_us)


def replace_requested(order: Order, request: int, quantity: int, amount_micros: int | None, at_us: int) -> Order:
    """The order with our replace, its n-th request, on its way. The caller has checked that it may."""
    assert not order.final
    assert order.pending is None
    assert request == order.requests + 1
    asked = order.changed(
        pending=Pending.REPLACE, requests=request, asked_quantity=quantity, asked_micros=amount_micros
    )
    return _next_version(asked, order, at_us)


def ended_by_us(order: Order) -> bool:
    """Final by our own conclusion: the exchange has said nothing about it."""
    return order.standing in ENDS and order.venue_seq == 0


def overfilled(order: Order) -> bool:
    """More was traded than was ever asked for. While a replace is pending the larger quantity may hold already."""
    asked = order.asked_quantity if order.pending is Pending.REPLACE else None
    return order.cum_qty > max(order.quantity, asked or 0)


def _reported(order: Order, report: Report) -> Order:
    standing = TABLE[order.standing, Event.SURFACED] if ended_by_us(order) else order.standing
    told = order.changed(
        standing=TABLE[standing, report.event] if report.event else standing,
        outcome=Outcome.CONFIRMED,
        cum_qty=order.cum_qty + report.traded_qty,
        cum_notional_micros=order.cum_notional_micros + report.traded_notional_micros,
        exchange_order_id=order.exchange_order_id or report.exchange_order_id,
        attempts=max(order.attempts, 1),
    )
    if report.terms is not None:
        told = _replaced(told, report.terms, report.venue_seq)
    if told == order and order.venue_seq > 0:
        return order  # a report that says nothing new leaves no trace, whatever its number
    status, reason = status_of(told.standing, told.cum_qty, told.quantity), order.reason
    if status is not order.status or order.outcome is not Outcome.CONFIRMED:
        # A note about a cancel or replace in doubt outlives what else happens to the order.
        noted = reason if is_note(reason) and doubt_of(told.changed(status=status)) is not None else None
        reason = report.reason or noted
    return told.changed(status=status, reason=reason, venue_seq=max(order.venue_seq, report.venue_seq, 1))


def _replaced(order: Order, terms: Terms, venue_seq: int) -> Order:
    if venue_seq > order.terms_seq:
        order = order.changed(
            quantity=terms.quantity,
            amount_micros=terms.amount_micros,
            cl_ord_id=terms.cl_ord_id,
            replaces=terms.replaces,
            terms_seq=venue_seq,
        )
    return _answered(order) if terms.request == order.requests else order


def _sent(order: Order, sent: Sent) -> Order:
    """About the submit. Anything the exchange itself said is stronger than what the sender saw."""
    attempts = max(order.attempts, sent.attempts)
    if order.venue_seq > 0:
        return order.changed(attempts=attempts)
    if sent.outcome is Outcome.CONFIRMED and sent.event is None:
        standing = TABLE[order.standing, Event.SURFACED] if order.final else order.standing
        reason = order.reason if order.outcome is Outcome.CONFIRMED and standing is order.standing else None
        return order.changed(standing=standing, outcome=Outcome.CONFIRMED, attempts=attempts, reason=reason)
    if order.outcome is Outcome.CONFIRMED and not order.final:
        return order.changed(attempts=attempts)
    if sent.event is not None:
        assert sent.event in OURS
        standing = TABLE[order.standing, sent.event]
        if standing is order.standing:
            return order.changed(attempts=attempts)
        return order.changed(standing=standing, outcome=sent.outcome, attempts=attempts, reason=sent.reason)
    if order.final or sent.outcome is order.outcome:
        return order.changed(attempts=attempts)
    return order.changed(outcome=sent.outcome, attempts=attempts, reason=sent.reason)


def _unknown(order: Order, unknown: Unknown) -> Order:
    if unknown.request == 1:
        if not unknown.asked:
            order = order.changed(attempts=max(order.attempts, unknown.attempts))
        if order.venue_seq > 0 or order.final or order.outcome is Outcome.CONFIRMED:
            return order
        if unknown.asked and order.outcome is not Outcome.UNKNOWN:
            return order  # a question about an order of which nothing is unknown
        order = order.changed(outcome=Outcome.UNKNOWN)
    elif order.standing in ENDS or order.pending is None or unknown.request != order.requests:
        return order
    if unknown.request != request_in_doubt(order):  # the submit comes first
        return order.changed(next_attempt_us=order.next_attempt_us or unknown.next_us)
    known = doubt_of(order)
    doubt = known or Doubt(request=unknown.request, sent_us=unknown.heard_us)
    if unknown.missed and known is not None and unknown.asked:
        doubt = doubt.missed(unknown.heard_us)
    elif not unknown.asked:
        doubt = doubt.sending_ended(unknown.heard_us)
    if doubt == known:
        return order.changed(next_attempt_us=order.next_attempt_us or unknown.next_us)
    return order.changed(next_attempt_us=unknown.next_us, reason=doubt.why(unknown.reason.code, unknown.reason.text))


def _request_sent(order: Order, sent: Sent) -> Order:
    """About a later request: one that will not reach the exchange is no longer pending."""
    if sent.event is not None or sent.outcome is Outcome.PARKED:
        return _rejoined(order, sent.request, sent.reason)
    return order


def _rejoined(order: Order, request: int, reason: Why | None) -> Order:
    if order.pending is None or request != order.requests:
        return order  # an answer to an earlier request, or the order ended meanwhile
    if order.outcome is Outcome.UNKNOWN:
        reason = order.reason  # while the order itself is in doubt, that is what there is to know about it
    return _answered(order).changed(reason=reason)


def _answered(order: Order) -> Order:
    return order.changed(**_ANSWERED)


_ANSWERED: Mapping[str, Any] = {"pending": None, "asked_quantity": None, "asked_micros": None}


def _settled(order: Order) -> dict[str, Any]:
    """What follows from standing and quantities. Nothing is open once the order is final. A request is awaited, and
    chased, until it is answered or the order ended, but not by a fill: that may be busted, or the quantity replaced."""
    status = status_of(order.standing, order.cum_qty, order.quantity)
    final = status in FINAL
    follows: dict[str, Any] = {"status": status, "leaves_qty": 0 if final else order.quantity - order.cum_qty}
    if order.standing in ENDS:
        follows |= _ANSWERED
    if order.standing in ENDS or (order.pending is None and order.outcome is not Outcome.UNKNOWN):
        follows["next_attempt_us"] = None
        if is_note(order.reason):
            follows["reason"] = None
    return follows


def _next_version(after: Order, before: Order, at_us: int, follows: Mapping[str, Any] = MappingProxyType({})) -> Order:
    return after.changed(**follows, version=before.version + 1, updated_us=max(at_us, before.updated_us))
