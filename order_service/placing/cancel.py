"""CancelOrder, decided: pure, on a loaded batch. The order lives on, marked, until the exchange answers.

A cancel passes always: also of a blocked account, while a kill switch is on, the market closed or the submit parked.
Only one request of an order is on its way at a time, so while a replace is, a cancel has to wait for its answer; sent
earlier, it could not overtake the replace on the way to the exchange either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from infra.clock import Ids
from infra.contracts import Command, CommandKind, OrdType, Side, Tif, cl_ord_id
from infra.principal import Principal
from order_service.domain import facts, reasons
from order_service.domain.order import Order, Pending
from order_service.domain.reasons import Fault
from order_service.placing.place import Done
from order_service.store.unit import Change, Unit


@dataclass(frozen=True, slots=True)
class CancelOrder:
    asker: Principal
    order_id: str
    traceparent: str


def decide(unit: Unit, request: CancelOrder, now_us: int, ids: Ids) -> Done | Fault:
    order = changeable(unit, request.asker, request.order_id)
    if isinstance(order, Fault):
        return order
    asked = facts.cancel_requested(order, order.requests + 1, now_us)
    change = Change(
        type="OrderCancelRequested",
        cause=f"client:{request.asker.subject}",
        event_id=str(ids.uuid7()),
        traceparent=request.traceparent,
    )
    asked = unit.record(asked, change)
    unit.command(later_command("cancel", asked, str(ids.uuid7())), request.traceparent)
    return Done(asked)


def changeable(unit: Unit, asker: Principal, order_id: str) -> Order | Fault:
    """The order, if the asker may see it and another request about it may be sent."""
    order = unit.orders.get(order_id)
    if order is None or not asker.may_see(order.account_id):
        return Fault(reasons.ORDER_NOT_FOUND)
    if order.final:
        return Fault(reasons.ORDER_FINAL, details={"status": order.status})
    if order.pending is not None:
        return Fault(reasons.CANCEL_PENDING if order.pending is Pending.CANCEL else reasons.REPLACE_PENDING)
    return order


def later_command(kind: CommandKind, order: Order, event_id: str) -> Command:
    """The order's newest request, with the terms that a replace asks for."""
    replaces = kind == "replace" and order.asked_quantity is not None
    return Command(
        kind=kind,
        event_id=event_id,
        order_id=order.id,
        account_id=order.account_id,
        cl_ord_id=cl_ord_id(order.id, order.requests),
        orig_cl_ord_id=order.cl_ord_id,
        symbol=order.symbol,
        order_type=cast(Side, order.order_type),
        type=cast(OrdType, order.type),
        tif=cast(Tif, order.tif),
        quantity=cast(int, order.asked_quantity) if replaces else order.quantity,
        limit_micros=order.asked_micros if replaces else order.amount_micros,
        idempotency_key=order.idempotency_key,
        requested_ns=order.updated_us * 1000,
    )
