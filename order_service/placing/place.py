"""PlaceOrder, decided: pure, on a loaded batch. The order, its event and the command to the exchange are one change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from infra.clock import NS_PER_S, Ids
from infra.contracts import Command, OrdType, Side, Tif, cl_ord_id
from infra.principal import Principal
from order_service.domain import checks, reasons
from order_service.domain.checks import Limits, Listing
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Outcome, Ticket
from order_service.domain.reasons import Fault
from order_service.placing.idempotency import differing, request_hash
from order_service.store.unit import Change, Unit

# A MARKET order is for the market of now: after an outage it is not sent any more.
MARKET_NOT_AFTER_NS = 30 * NS_PER_S

Listings = Mapping[str, Listing]


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """A request to place an order. `order_id` is given before the batch, so that the batch can be repeated; without a
    key of the client's it is the key too."""

    asker: Principal
    account_id: int
    order_id: str
    ticket: Ticket
    key: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Done:
    """The order after a request. `replayed`: an earlier request with the same key had done it."""

    order: Order
    replayed: bool = False


def decide(unit: Unit, request: PlaceOrder, listings: Listings, limits: Limits, now_us: int, ids: Ids) -> Done | Fault:
    """A repeated request is recognised before anything that may have changed since is asked."""
    account = unit.accounts.get(request.account_id)
    if account is None:
        return Fault(reasons.ACCOUNT_UNKNOWN, details={"account": request.account_id})
    first = unit.first_of_key(account.id, request.key)
    if first is not None:
        return _again(first, request)
    if account.status != "active":
        return Fault(reasons.ACCOUNT_BLOCKED, details={"account": account.id})
    if (fault := listed(request.ticket, listings, limits)) is not None:
        return fault
    change = Change(
        type="OrderPlaced",
        cause=f"client:{request.asker.subject}",
        event_id=str(ids.uuid7()),
        traceparent=request.traceparent,
    )
    order = unit.record(_order(request, now_us, account.seq + 1), change)
    unit.command(_submit(order, now_us * 1000, str(ids.uuid7())), request.traceparent)
    return Done(order)


def listed(ticket: Ticket, listings: Listings, limits: Limits) -> Fault | None:
    if not listings:
        return Fault(reasons.INSTRUMENTS_UNKNOWN)
    return checks.listed(ticket, listings.get(ticket.symbol), limits)


def _again(first: Order, request: PlaceOrder) -> Done | Fault:
    if first.id == request.order_id:
        return Done(first)  # this very request: its batch was committed, but the answer got lost on the way to us
    if first.request_hash == request_hash(request.ticket):
        return Done(first, replayed=True)
    fields = differing(request.ticket, first)
    details = {"fields": ", ".join(fields), "orderId": first.id}
    return Fault(reasons.KEY_REUSED, "Idempotency-Key", details)


def _order(request: PlaceOrder, now_us: int, account_seq: int) -> Order:
    ticket = request.ticket
    return Order(
        id=request.order_id,
        account_id=request.account_id,
        order_type=ticket.order_type,
        type=ticket.type,
        symbol=ticket.symbol,
        quantity=ticket.quantity,
        amount_micros=ticket.amount_micros,
        tif=ticket.tif,
        status=Status.PENDING,
        pending=None,
        outcome=Outcome.UNSENT,
        cum_qty=0,
        leaves_qty=ticket.quantity,
        cum_notional_micros=0,
        exchange_order_id=None,
        cl_ord_id=cl_ord_id(request.order_id, 1),
        requests=1,
        venue_seq=0,
        idempotency_key=request.key,
        request_hash=request_hash(ticket),
        reason=None,
        attempts=0,
        next_attempt_us=None,
        version=1,
        account_seq=account_seq,
        created_us=now_us,
        updated_us=now_us,
    )


def _submit(order: Order, now_ns: int, event_id: str) -> Command:
    return Command(
        kind="submit",
        event_id=event_id,
        order_id=order.id,
        account_id=order.account_id,
        cl_ord_id=order.cl_ord_id,
        symbol=order.symbol,
        order_type=cast(Side, order.order_type),
        type=cast(OrdType, order.type),
        tif=cast(Tif, order.tif),
        quantity=order.quantity,
        limit_micros=order.amount_micros,
        not_after_ns=now_ns + MARKET_NOT_AFTER_NS if order.type == "MARKET" else None,
        idempotency_key=order.idempotency_key,
        requested_ns=now_ns,
    )
