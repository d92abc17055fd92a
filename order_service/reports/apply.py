"""What a message on `order-status` means for its order: pure, on a loaded batch. The same report changes nothing the
second time, whichever of answer, webhook and drop copy brought it first."""

from __future__ import annotations

from dataclasses import dataclass

from infra.clock import Ids
from infra.contracts import NOT_AFTER_PASSED, UNKNOWN_ORDER, Report
from order_service.domain import executions, facts, lifecycle, reasons
from order_service.domain.breaks import Break
from order_service.domain.doubt import next_attempt_us
from order_service.domain.executions import Execution, Traded
from order_service.domain.facts import Fact, RequestRejected, Sent, Terms, Unknown
from order_service.domain.lifecycle import Event, Status
from order_service.domain.order import Order, Outcome, Pending, Why
from order_service.domain.reasons import Code
from order_service.heard import Heard
from order_service.reports.strangers import Listed, Stranger, unknown_order
from order_service.store.unit import Change, Unit

_VENUE_EVENTS = {
    "NEW": Event.ACKNOWLEDGED,
    "REPLACED": Event.ACKNOWLEDGED,
    "TRADE": Event.TRADED,
    "TRADE_CANCEL": Event.TRADED,
    "TRADE_CORRECT": Event.TRADED,
    "CANCELED": Event.CANCELED,
    "EXPIRED": Event.EXPIRED,
    "REJECTED": Event.REJECTED,
}
_OUTCOME_EVENTS = {
    Outcome.CONFIRMED: "OrderSendConfirmed",
    Outcome.UNKNOWN: "OrderSendUnknown",
    Outcome.PARKED: "OrderSendParked",
    Outcome.UNSENT: "OrderUpdated",
}
_RESTATED = {"bust": "OrderFillBusted", "correct": "OrderFillCorrected"}
_REQUEST_REJECTED = {Pending.CANCEL: "OrderCancelRejected", Pending.REPLACE: "OrderReplaceRejected"}
_NOTHING = Traded(0, 0)


@dataclass(frozen=True, slots=True)
class Applied:
    """The order changed."""

    order: Order
    overfilled: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing changed; `why` is for the metric."""

    why: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """The report can never be applied as it is."""

    code: str
    text: str


Verdict = Applied | Ignored | Unusable | Stranger


def decide(unit: Unit, said: Heard, now_us: int, traceparent: str, ids: Ids) -> Verdict:
    report, execution = said.report, said.execution
    order = unit.orders.get(said.order_id)
    if report.exec_type == "STATUS" and report.kind == "execution":
        return Ignored("status_only")
    if execution is not None and (known := unit.known.get(execution.key)) is not None:
        if known.terms == execution.terms:
            return Ignored("duplicate")
        unit.broken(_conflict(known, execution, now_us))
        text = f"{execution.key} is stored with {known.terms}, reported with {execution.terms}"
        return Unusable("exec_id_conflict", text)
    if order is None:
        match unknown_order(unit, said, now_us):
            case Listed.NOTHING:
                return Ignored("unknown_order")
            case Listed.UNREADABLE:
                return Unusable(
                    UNKNOWN_ORDER, f"no order {said.order_id}, and the report says neither what nor which way"
                )
            case stranger:
                return stranger
    traded = _NOTHING
    if execution is not None:
        execution = execution.of_order(order.account_id, order.symbol, order.order_type)
        traded = executions.added(unit.of_fill(order.id, execution.fill_id), execution)
    after = facts.apply(order, _fact(said, traded, now_us, ids), now_us)
    if execution is not None:
        unit.executed(execution)
    if after is order:
        return Ignored("nothing_new")
    cause = f"exec:{report.exec_id}" if report.exec_id else f"{report.kind}:{report.outcome or report.cl_ord_id}"
    change = Change(
        type=event_type(order, after, execution),
        cause=cause,
        event_id=ids.text7(),
        traceparent=traceparent,
        exec_id=report.exec_id,
    )
    after = unit.record(after, change)
    over = traded.quantity > 0 and facts.overfilled(after)
    if over:
        _alarm(unit, after, now_us)
    return Applied(after, over)


def event_type(before: Order, after: Order, execution: Execution | None) -> str:
    """The event's name, from what changed most."""
    if execution is not None and execution.kind in _RESTATED:
        return _RESTATED[execution.kind]
    if after.cum_qty != before.cum_qty and after.status is not Status.FILLED:
        return "OrderPartiallyFilled"
    if after.terms_seq != before.terms_seq:
        return "OrderReplaced"
    if after.status is not before.status or after.cum_qty != before.cum_qty:
        return lifecycle.NAMES.get(after.status, "OrderSendConfirmed")
    if before.pending is not None and after.pending is None:
        return _REQUEST_REJECTED[before.pending]
    if after.outcome is not before.outcome:
        return _OUTCOME_EVENTS[after.outcome]
    return "OrderUpdated"


def _fact(said: Heard, traded: Traded, now_us: int, ids: Ids) -> Fact:
    report = said.report
    if report.kind == "cancel_reject":
        return RequestRejected(request=said.request, reason=_why(report, reasons.CANCEL_REJECTED))
    if report.kind == "send_outcome":
        return _unknown(said, now_us, ids) if report.outcome == "unknown" else _sent(said)
    event = _VENUE_EVENTS.get(report.exec_type or "")
    given = _why(report, reasons.REJECTED_BY_VENUE) if event is Event.REJECTED or report.reason else None
    return facts.Report(
        event=event,
        traded_qty=traded.quantity,
        traded_notional_micros=traded.notional_micros,
        terms=_terms(said) if report.exec_type == "REPLACED" else None,
        exchange_order_id=report.exchange_order_id,
        venue_seq=report.venue_seq,
        reason=given,
    )


def _terms(said: Heard) -> Terms:
    report = said.report
    return Terms(
        request=said.request,
        quantity=report.quantity,
        amount_micros=report.limit_micros,
        cl_ord_id=report.cl_ord_id,
        replaces=report.orig_cl_ord_id,
    )


def _sent(said: Heard) -> Sent:
    """What the gateway found out about a send. `refused` is an answer of the exchange; only what was provably never
    sent counts as unsent."""
    report = said.report
    outcome, event, reason = Outcome.CONFIRMED, None, None
    if report.outcome == "refused":
        event, reason = Event.REFUSED, _why(report, reasons.REFUSED_BY_VENUE)
    elif report.outcome == "not_sent":
        late = report.reason is not None and report.reason.code == NOT_AFTER_PASSED
        outcome, event = Outcome.UNSENT, Event.TOO_LATE if late else Event.GIVEN_UP
        reason = _why(report, reasons.NOT_AFTER_PASSED if late else reasons.NOT_SENT)
    elif report.outcome == "parked":
        outcome, reason = Outcome.PARKED, _why(report, reasons.PARKED)
    return Sent(request=said.request, outcome=outcome, event=event, attempts=report.attempts, reason=reason)


def _unknown(said: Heard, now_us: int, ids: Ids) -> Unknown:
    """Only a question's answer counts as asked: a sending may reach the exchange after "not found" was said of it."""
    report = said.report
    return Unknown(
        request=said.request,
        heard_us=report.received_ns // 1000,
        next_us=next_attempt_us(now_us, 0, ids.random),
        reason=_why(report, reasons.OUTCOME_UNKNOWN),
        asked=report.command == "query",
        missed=report.reason is not None and report.reason.code == UNKNOWN_ORDER,
        attempts=report.attempts,
    )


def _conflict(known: Execution, told: Execution, now_us: int) -> Break:
    return Break(
        kind="exec_conflict",
        subject=" ".join(map(str, known.key)),
        ours=_numbers(known),
        theirs=_numbers(told),
        proposal="Ask the exchange which one holds; it restates the fill with a correction if it is the second.",
        order_id=known.key.order_id,
        account_id=known.account_id or None,
        seen_us=now_us,
    )


def _numbers(one: Execution) -> dict[str, object]:
    kind, exec_ref_id, last_qty, last_micros = one.terms
    return {"kind": kind, "execRefId": exec_ref_id, "lastQuantity": last_qty, "lastMicros": last_micros}


def _alarm(unit: Unit, order: Order, now_us: int) -> None:
    """More was traded than ordered. It counts, and nothing more may be ordered until a person has looked."""
    unit.block(order.account_id, f"overfill of order {order.id}")
    unit.broken(
        Break(
            kind="overfill",
            subject=order.id,
            ours={"quantity": order.quantity},
            theirs={"cumQuantity": order.cum_qty},
            proposal="Ask the exchange to bust what is too much, or take it over; then unblock the account.",
            order_id=order.id,
            account_id=order.account_id,
            seen_us=now_us,
        )
    )


def _why(report: Report, otherwise: Code) -> Why:
    """The sender's own reason where it gave one."""
    if report.reason is None:
        return Why(otherwise.code, otherwise.text)
    return Why(report.reason.code, report.reason.text or otherwise.text)
