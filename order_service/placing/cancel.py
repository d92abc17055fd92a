"""CancelOrder, decided: pure, on a loaded batch. The order lives on, marked, until the exchange answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from infra.clock import Ids
from infra.contracts import Command, OrdType, Side, Tif, cl_ord_id
from infra.principal import Principal
from order_service.domain import facts, reasons
from order_service.domain.order import Order
from order_service.domain.reasons import Fault
from order_service.placing.place import Done
from order_service.store.unit import Change, Unit


@dataclass(frozen=True, slots=True)
class CancelOrder:
    asker: Principal
    order_id: str
    traceparent: str


def decide(unit: Unit, request: CancelOrder, now_us: int, ids: Ids) -> Done | Fault:
    order = unit.orders.get(request.order_id)
    if order is None or not request.asker.may_see(order.account_id):
        return Fault(reasons.ORDER_NOT_FOUND)
    if order.final:
        return Fault(reasons.ORDER_FINAL, details={"status": order.status})
    if order.pending is not None:
        return Fault(reasons.CANCEL_PENDING, details={"pending": order.pending})
    number = order.requests + 1
    asked = facts.cancel_requested(order, number, now_us)
    change = Change(
        type="OrderCancelRequested",
        cause=f"client:{request.asker.subject}",
        event_id=str(ids.uuid7()),
        traceparent=request.traceparent,
    )
    asked = unit.record(asked, change)
    unit.command(_cancel(asked, cl_ord_id(order.id, number), str(ids.uuid7())), request.traceparent)
    return Done(asked)


def _cancel(order: Order, own_cl_ord_id: str, event_id: str) -> Command:
    return Command(
        kind="cancel",
        event_id=event_id,
        order_id=order.id,
        account_id=order.account_id,
        cl_ord_id=own_cl_ord_id,
        orig_cl_ord_id=order.cl_ord_id,
        symbol=order.symbol,
        order_type=cast(Side, order.order_type),
        type=cast(OrdType, order.type),
        tif=cast(Tif, order.tif),
        quantity=order.quantity,
        limit_micros=order.amount_micros,
        idempotency_key=order.idempotency_key,
        requested_ns=order.updated_us * 1000,
    )
