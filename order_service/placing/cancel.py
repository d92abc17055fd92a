"""CancelOrder, decided: pure, on a loaded batch. The order lives on, marked, until the exchange answers.

A cancel passes always: also of a blocked account, while a kill switch is on, the market closed or the submit parked.
Only one request of an order is on its way at a time, so while a replace is, a cancel has to wait for its answer; sent
earlier, it could not overtake the replace on the way to the exchange either.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.clock import Ids
from infra.principal import Principal
from order_service.domain import facts, reasons
from order_service.domain.order import Order, Pending
from order_service.domain.reasons import Fault
from order_service.placing.place import Done
from order_service.store.commands import newest
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
    return sent(unit, asked, "OrderCancelRequested", request.asker, request.traceparent, ids)


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


def sent(unit: Unit, asked: Order, event: str, asker: Principal, traceparent: str, ids: Ids) -> Done:
    """The order with the request on its way: its event, and the command to the exchange."""
    change = Change(type=event, cause=f"client:{asker.subject}", event_id=ids.text7(), traceparent=traceparent)
    asked = unit.record(asked, change)
    unit.command(newest(asked, ids.text7(), asked.updated_us), traceparent)
    return Done(asked)
