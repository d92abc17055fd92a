"""What clients send, decoded exactly and strictly by msgspec: no float touches a price, and no field is overlooked."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from infra.reasons import INVALID_FIELD, INVALID_JSON, MISSING_FIELD, UNKNOWN_FIELD, refusal
from infra.refusal import Refusal

B = TypeVar("B")


class PlaceOrderBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """The owner's words. `amount` is the limit price per share in USD, a JSON number or a string, never a float."""

    order_type: str
    type: str
    symbol: str
    quantity: int | float
    amount: Decimal | None = None
    time_in_force: str = "DAY"

    def wanted(self) -> dict[str, Any]:
        """As the desk takes it."""
        return {
            "order_type": self.order_type,
            "type_": self.type,
            "symbol": self.symbol,
            "quantity": self.quantity,
            "amount": self.amount,
            "tif": self.time_in_force,
        }


class ReplaceOrderBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """New terms of an order; what is left out stays as it is."""

    quantity: int | float | None = None
    amount: Decimal | None = None


_place = msgspec.json.Decoder(PlaceOrderBody)
_replace = msgspec.json.Decoder(ReplaceOrderBody)
_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_PLACE = re.compile(r"^(.*) - at `\$\.(\w+)`")

_QUANTITY = {"type": "integer", "minimum": 1}
_AMOUNT = {
    "type": ["number", "string"],
    "description": "Limit price per share in USD: required for LIMIT, refused for MARKET.",
}


def _doc(required: list[str], properties: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


PLACE_DOC = _doc(
    ["orderType", "type", "symbol", "quantity"],
    {
        "orderType": {"type": "string", "enum": ["buy", "sell"]},
        "type": {"type": "string", "enum": ["LIMIT", "MARKET"]},
        "symbol": {"type": "string"},
        "quantity": _QUANTITY,
        "amount": _AMOUNT,
        "timeInForce": {"type": "string", "enum": ["DAY", "GTC", "IOC", "FOK"], "default": "DAY"},
    },
    {"orderType": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 10, "amount": 480.25},
)
PLACE_DOC["parameters"] = [
    {
        "name": "preview",
        "in": "query",
        "description": "true: say what would happen, store nothing.",
        "schema": {"type": "boolean"},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "1 to 255 visible ASCII characters: the same request again is answered as the first one was.",
        "schema": {"type": "string", "maxLength": 255},
    },
    {"name": "traceparent", "in": "header", "description": "W3C Trace Context.", "schema": {"type": "string"}},
]
REPLACE_DOC = _doc([], {"quantity": _QUANTITY, "amount": _AMOUNT}, {"quantity": 20, "amount": 480.5})


def place_body(body: bytes) -> PlaceOrderBody:
    """The body, or a Refusal that names the field."""
    return _decoded(_place, body)


def replace_body(body: bytes) -> ReplaceOrderBody:
    """The body, or a Refusal that names the field."""
    return _decoded(_replace, body)


def _decoded(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    try:
        return decoder.decode(body)
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
