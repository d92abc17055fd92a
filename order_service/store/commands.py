"""Commands about an order that is stored already: changing it, asking the exchange about it, and saying again what it
may not have heard."""

from __future__ import annotations

from typing import cast

from infra.contracts import Command, CommandKind, OrdType, Side, Tif, cl_ord_id
from order_service.domain.order import Order, Pending


def query(order: Order, request: int, event_id: str, now_us: int) -> Command:
    """What became of the order's n-th request?"""
    return _command("query", order, request, event_id, now_us)


def newest(order: Order, event_id: str, now_us: int) -> Command:
    """The cancel or replace that is pending, with the terms that it asks for."""
    kind: CommandKind = "cancel" if order.pending is Pending.CANCEL else "replace"
    return _command(kind, order, order.requests, event_id, now_us)


def again(order: Order, request: int, event_id: str, now_us: int) -> Command:
    """The very same request under the very same ClOrdID, so that the exchange can take it once only."""
    if request == 1:
        return _command("submit_again", order, 1, event_id, order.created_us)
    return newest(order, event_id, now_us)


def _command(kind: CommandKind, order: Order, request: int, event_id: str, requested_us: int) -> Command:
    replaces = kind == "replace" and order.asked_quantity is not None
    return Command(
        kind=kind,
        event_id=event_id,
        order_id=order.id,
        account_id=order.account_id,
        cl_ord_id=cl_ord_id(order.id, request),
        orig_cl_ord_id=order.cl_ord_id if kind in ("cancel", "replace") else None,
        symbol=order.symbol,
        order_type=cast(Side, order.order_type),
        type=cast(OrdType, order.type),
        tif=cast(Tif, order.tif),
        quantity=cast(int, order.asked_quantity) if replaces else order.quantity,
        limit_micros=order.asked_micros if replaces else order.amount_micros,
        not_after_ns=None if order.not_after_us is None else order.not_after_us * 1000,
        idempotency_key=order.idempotency_key,
        requested_ns=requested_us * 1000,
    )
