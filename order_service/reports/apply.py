"""What a message on `order-status` means for its order: pure, on a loaded batch. The same report changes nothing the
second time, whichever of answer, webhook and drop copy brought it first."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from infra.clock import Ids
from infra.contracts import Malformed, Report, order_id_of
from order_service.domain import facts, lifecycle, reasons
from order_service.domain.facts import CancelRejected, Fact, Sent
from order_service.domain.lifecycle import Event, Status
from order_service.domain.order import Order, Outcome, Pending, Why
from order_service.domain.reasons import Code
from order_service.store.unit import Change, Execution, FillKey, Unit

_VENUE_EVENTS = {
    "NEW": Event.ACKNOWLEDGED,
    "CANCELED": Event.CANCELED,
    "EXPIRED": Event.EXPIRED,
    "REJECTED": Event.REJECTED,
}
# Words of the exchange that nothing here asks for yet; parked, so that none is lost.
_LATER = frozenset({"REPLACED", "TRADE_CORRECT", "TRADE_CANCEL"})
_OUTCOME_EVENTS = {
    Outcome.CONFIRMED: "OrderSendConfirmed",
    Outcome.UNKNOWN: "OrderSendUnknown",
    Outcome.PARKED: "OrderSendParked",
    Outcome.UNSENT: "OrderUpdated",
}


@dataclass(frozen=True, slots=True)
class Applied:
    """The order changed."""

    order: Order


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing changed; `why` is for the metric."""

    why: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """The report can never be applied as it is."""

    code: str
    text: str


Verdict = Applied | Ignored | Unusable


@dataclass(frozen=True, slots=True)
class Heard:
    """A report with its order id in our writing, and the number of the request that it answers."""

    report: Report
    order_id: str
    request: int


def heard(report: Report) -> Heard | Unusable:
    """Raises Malformed for a report that contradicts itself. One about an order that cannot be ours is not usable."""
    try:
        order_id = str(UUID(report.order_id))
        of_request = order_id_of(report.cl_ord_id)
    except ValueError:  # Malformed is one
        return Unusable("unknown_order", f"{report.cl_ord_id!r} is not a ClOrdID of ours")
    if of_request != order_id:
        raise Malformed(f"{report.cl_ord_id!r} is not a ClOrdID of order {order_id}")
    if report.kind == "execution" and report.exec_type is None:
        raise Malformed("an execution report without exec_type")
    if report.kind == "send_outcome" and report.outcome is None:
        raise Malformed("a send outcome without outcome")
    if report.exec_type == "TRADE" and report.kind == "execution":
        if not report.exec_id:
            raise Malformed("a fill without exec_id")
        if report.last_qty < 1 or report.last_micros < 1:
            raise Malformed(f"a fill of {report.last_qty} at {report.last_micros} micros")
    return Heard(report, order_id, int(report.cl_ord_id.rpartition("-")[2]))


def decide(unit: Unit, said: Heard, now_us: int, traceparent: str, ids: Ids) -> Verdict:
    report = said.report
    order = unit.orders.get(said.order_id)
    if order is None:
        return Unusable("unknown_order", f"no order {said.order_id}")
    if report.kind == "snapshot" or report.exec_type == "STATUS":
        return Ignored("status_only")
    if report.exec_type in _LATER:
        return Unusable("not_supported", f"{report.exec_type} is not handled yet")
    fill = _fill(order, report)
    if fill is not None and (known := unit.fills.get(fill.key)) is not None:
        if known.terms != fill.terms:
            return Unusable("exec_id_conflict", f"{fill.key} is stored with {known.terms}, reported with {fill.terms}")
        return Ignored("duplicate")
    after = facts.apply(order, _fact(said), now_us)
    if after is order:
        return Ignored("nothing_new")
    if fill is not None:
        unit.fill(fill)
    cause = f"exec:{report.exec_id}" if report.exec_id else f"{report.kind}:{report.outcome or report.cl_ord_id}"
    change = Change(
        type=event_type(order, after),
        cause=cause,
        event_id=str(ids.uuid7()),
        traceparent=traceparent,
        exec_id=report.exec_id,
    )
    return Applied(unit.record(after, change))


def event_type(before: Order, after: Order) -> str:
    """The event's name, from what changed most."""
    if after.cum_qty != before.cum_qty and after.status is not Status.FILLED:
        return "OrderPartiallyFilled"
    if after.status is not before.status or after.cum_qty != before.cum_qty:
        return lifecycle.NAMES.get(after.status, "OrderSendConfirmed")
    if before.pending is Pending.CANCEL and after.pending is None:
        return "OrderCancelRejected"
    if after.outcome is not before.outcome:
        return _OUTCOME_EVENTS[after.outcome]
    return "OrderUpdated"


def _fact(said: Heard) -> Fact:
    report = said.report
    if report.kind == "cancel_reject":
        return CancelRejected(request=said.request, reason=_why(report, reasons.CANCEL_REJECTED))
    if report.kind == "send_outcome":
        return _sent(said)
    event = _VENUE_EVENTS.get(report.exec_type or "")
    given = _why(report, reasons.REJECTED_BY_VENUE) if event is Event.REJECTED or report.reason else None
    return facts.Report(
        event=event,
        last_qty=report.last_qty if report.exec_type == "TRADE" else 0,
        last_micros=report.last_micros,
        exchange_order_id=report.exchange_order_id,
        venue_seq=report.venue_seq,
        reason=given,
    )


def _sent(said: Heard) -> Sent:
    """What the gateway found out about a send. `refused` is an answer of the exchange; only what was provably never
    sent counts as unsent."""
    report = said.report
    outcome, event, reason = Outcome.CONFIRMED, None, None
    if report.outcome == "refused":
        event, reason = Event.REFUSED, _why(report, reasons.REFUSED_BY_VENUE)
    elif report.outcome == "not_sent":
        late = report.reason is not None and report.reason.code == reasons.NOT_AFTER_PASSED.code
        outcome, event = Outcome.UNSENT, Event.TOO_LATE if late else Event.GIVEN_UP
        reason = _why(report, reasons.NOT_AFTER_PASSED if late else reasons.NOT_SENT)
    elif report.outcome == "unknown":
        outcome, reason = Outcome.UNKNOWN, _why(report, reasons.OUTCOME_UNKNOWN)
    elif report.outcome == "parked":
        outcome, reason = Outcome.PARKED, _why(report, reasons.PARKED)
    return Sent(request=said.request, outcome=outcome, event=event, attempts=report.attempts, reason=reason)


def _fill(order: Order, report: Report) -> Execution | None:
    if report.kind != "execution" or report.exec_type != "TRADE":
        return None
    return Execution(
        key=FillKey(order.id, report.exec_id or "", report.venue_seq),
        account_id=order.account_id,
        last_qty=report.last_qty,
        last_micros=report.last_micros,
        transact_ns=report.transact_ns,
        source=report.source,
    )


def _why(report: Report, otherwise: Code) -> Why:
    """The sender's own reason where it gave one."""
    if report.reason is None:
        return Why(otherwise.code, otherwise.text)
    return Why(report.reason.code, report.reason.text or otherwise.text)
