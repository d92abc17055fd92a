"""Our command in the venue's words (docs/venue-api.md): FIX NewOrderSingle, OrderCancelRequest,
OrderCancelReplaceRequest and OrderStatusRequest."""

from __future__ import annotations

import msgspec

from exchange_gateway.venue import VenueSide
from infra.contracts import Command, Malformed, OrdType, Side, Tif

_SIDES: dict[Side, VenueSide] = {"buy": "BUY", "sell": "SELL"}


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    cl_ord_id: str
    symbol: str
    side: VenueSide
    ord_type: OrdType
    tif: Tif
    quantity: int
    limit_micros: int | None


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    orig_cl_ord_id: str
    cl_ord_id: str


class ReplaceRequest(msgspec.Struct, frozen=True, kw_only=True):
    orig_cl_ord_id: str
    cl_ord_id: str
    quantity: int
    limit_micros: int | None


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    cl_ord_id: str


Request = NewOrder | CancelRequest | ReplaceRequest | StatusRequest


def request_of(command: Command) -> Request:
    """What to ask the venue for. Raises Malformed when the command lacks what its kind needs."""
    if command.kind in ("submit", "submit_again"):
        return NewOrder(
            cl_ord_id=command.cl_ord_id,
            symbol=command.symbol,
            side=_SIDES[command.order_type],
            ord_type=command.type,
            tif=command.tif,
            quantity=command.quantity,
            limit_micros=command.limit_micros,
        )
    if command.kind == "query":
        return StatusRequest(cl_ord_id=command.cl_ord_id)
    if command.orig_cl_ord_id is None:
        raise Malformed(f"a {command.kind} names no orig_cl_ord_id")
    if command.kind == "cancel":
        return CancelRequest(orig_cl_ord_id=command.orig_cl_ord_id, cl_ord_id=command.cl_ord_id)
    return ReplaceRequest(
        orig_cl_ord_id=command.orig_cl_ord_id,
        cl_ord_id=command.cl_ord_id,
        quantity=command.quantity,
        limit_micros=command.limit_micros,
    )


def asked_as(command: Command) -> str:
    """The ClOrdID under which the venue surely knows the order, whatever became of this command."""
    if command.kind in ("cancel", "replace") and command.orig_cl_ord_id is not None:
        return command.orig_cl_ord_id
    return command.cl_ord_id
