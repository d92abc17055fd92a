"""POST /orders and DELETE /orders/{id}. The body is decoded by msgspec, exactly and strictly: this is the hot path."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response

from infra.principal import Principal
from infra.reasons import INVALID_FIELD, INVALID_JSON, MISSING_FIELD, UNKNOWN_FIELD, refusal
from infra.refusal import Refusal
from order_service.domain import reasons
from order_service.placing.desk import Desk
from order_service.store.order_json import order_bytes
from order_service.store.refusals import refuse


class PlaceOrderBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """The owner's words. `amount` is the limit price per share in USD, a JSON number or a string, never a float."""

    order_type: str
    type: str
    symbol: str
    quantity: int | float
    amount: Decimal | None = None
    time_in_force: str = "DAY"


_decoder = msgspec.json.Decoder(PlaceOrderBody)
_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_PLACE = re.compile(r"^(.*) - at `\$\.(\w+)`")

BODY_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["orderType", "type", "symbol", "quantity"],
                    "properties": {
                        "orderType": {"type": "string", "enum": ["buy", "sell"]},
                        "type": {"type": "string", "enum": ["LIMIT", "MARKET"]},
                        "symbol": {"type": "string"},
                        "quantity": {"type": "integer", "minimum": 1},
                        "amount": {
                            "type": ["number", "string"],
                            "description": "Limit price per share in USD: required for LIMIT, refused for MARKET.",
                        },
                        "timeInForce": {"type": "string", "enum": ["DAY", "GTC", "IOC", "FOK"], "default": "DAY"},
                    },
                },
                "example": {"orderType": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 10, "amount": 480.25},
            }
        },
    }
}


def routes(desk: Desk, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["orders"])

    @router.post("/orders", status_code=201, openapi_extra=BODY_DOC, summary="Place an order")
    async def place(
        request: Request,
        asker: Principal = Depends(principal),
        idempotency_key: Annotated[str | None, Header()] = None,
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Stored when this answers 201; the exchange's word comes later, in the order and on GET /orders/stream."""
        for name in request.query_params:
            raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="none")
        body = decoded(await request.body())
        done = await desk.place(
            asker,
            order_type=body.order_type,
            type_=body.type,
            symbol=body.symbol,
            quantity=body.quantity,
            amount=body.amount,
            tif=body.time_in_force,
            key=idempotency_key,
            traceparent=traceparent,
        )
        headers = {"Location": f"/orders/{done.order.id}"}
        if done.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(order_bytes(done.order), 201, headers, "application/json")

    @router.delete("/orders/{order_id}", status_code=202, summary="Ask for an order's cancellation")
    async def cancel(
        order_id: str,
        asker: Principal = Depends(principal),
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The order stays open, `pending: "cancel"`, until the exchange answers."""
        done = await desk.cancel(asker, order_id, traceparent)
        return Response(order_bytes(done.order), 202, media_type="application/json")

    return router


def decoded(body: bytes) -> PlaceOrderBody:
    """The body, or a Refusal that names the field."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(str(error)) from None


def _wrong(problem: str) -> Refusal:
    if missing := _MISSING.search(problem):
        return refusal(MISSING_FIELD, f"The field {missing[1]} is missing.", missing[1])
    if unknown := _UNKNOWN.search(problem):
        return refusal(UNKNOWN_FIELD, f"The field {unknown[1]} is not known here.", unknown[1])
    if place := _PLACE.search(problem):
        return refusal(INVALID_FIELD, f"The field has the wrong type: {place[1]}.", place[2])
    return _unreadable(problem)


def _unreadable(problem: str) -> Refusal:
    return refusal(INVALID_JSON, f"The body is not a JSON object: {problem}.", "body")
