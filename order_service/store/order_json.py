"""How an order is written as JSON: in the answers of the HTTP API and, the very same, in the events about it.

Amounts are JSON numbers with their exact decimals, written from integers; they never pass through a float.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw

from order_service.domain.money import average_micros, text_of
from order_service.domain.order import Order, Why

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encoder = msgspec.json.Encoder()


class OrderJson(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The Order JSON. `amount` and `averagePrice` are USD per share."""

    id: str
    account_id: int
    order_type: str
    type: str
    symbol: str
    quantity: int
    amount: Raw | None
    time_in_force: str
    status: str
    pending: str | None
    outcome: str
    cum_quantity: int
    leaves_quantity: int
    average_price: Raw | None
    exchange_order_id: str | None
    idempotency_key: str
    reason: Why | None
    attempts: int
    next_attempt_at: str | None
    version: int
    account_seq: int
    created_at: str
    updated_at: str


class _Event(msgspec.Struct, frozen=True, gc=False):
    """infra.contracts.OrderEvent with the order as bytes."""

    event_id: str
    type: str
    account_id: int
    account_seq: int
    order_id: str
    version: int
    at_ns: int
    cause: str
    order: Raw


class _ClientEvent(msgspec.Struct, frozen=True, rename="camel", gc=False):
    event_id: str
    type: str
    account_id: int
    account_seq: int
    order_id: str
    version: int
    at: str
    cause: str
    order: Raw


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What a reader of `order-events` needs to know of an event before it looks inside."""

    event_id: str
    account_id: int
    account_seq: int


_event_decoder = msgspec.json.Decoder(_Event)


def order_bytes(order: Order) -> bytes:
    return _encoder.encode(_view(order))


def page_bytes(orders: Iterable[Order], following: str | None) -> bytes:
    return _encoder.encode({"orders": [_view(order) for order in orders], "next": following})


def event_payload(order: Order, event_id: str, type_: str, cause: str, at_ns: int) -> str:
    """The text of the message on `order-events`."""
    event = _Event(
        event_id,
        type_,
        order.account_id,
        order.account_seq,
        order.id,
        order.version,
        at_ns,
        cause,
        Raw(order_bytes(order)),
    )
    return _encoder.encode(event).decode()


def client_event(payload: str | bytes) -> bytes:
    """An event in the words of the HTTP API, from its message. The order in it is passed through byte for byte."""
    event = _event_decoder.decode(payload)
    return _encoder.encode(
        _ClientEvent(
            event.event_id,
            event.type,
            event.account_id,
            event.account_seq,
            event.order_id,
            event.version,
            time_text(event.at_ns // 1000),
            event.cause,
            event.order,
        )
    )


def events_bytes(payloads: Iterable[str]) -> bytes:
    return _encoder.encode({"events": [Raw(client_event(payload)) for payload in payloads]})


def why_json(why: Why | None) -> dict[str, Any] | None:
    """A reason as it is stored."""
    return None if why is None else {"code": why.code, "text": why.text, "details": why.details}


def why_of(stored: dict[str, Any] | None) -> Why | None:
    return None if stored is None else Why(stored["code"], stored["text"], stored["details"])


@lru_cache(maxsize=64)
def time_text(us: int) -> str:
    """RFC 3339, UTC, microseconds. A batch has one time, so it is written once."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds")[:-6] + "Z"


def _view(order: Order) -> OrderJson:
    micros = order.amount_micros
    average = average_micros(order.cum_notional_micros, order.cum_qty) if order.cum_qty else None
    return OrderJson(
        id=order.id,
        account_id=order.account_id,
        order_type=order.order_type,
        type=order.type,
        symbol=order.symbol,
        quantity=order.quantity,
        amount=None if micros is None else Raw(text_of(micros).encode()),
        time_in_force=order.tif,
        status=order.status,
        pending=order.pending,
        outcome=order.outcome,
        cum_quantity=order.cum_qty,
        leaves_quantity=order.leaves_qty,
        average_price=None if average is None else Raw(text_of(average).encode()),
        exchange_order_id=order.exchange_order_id,
        idempotency_key=order.idempotency_key,
        reason=order.reason,
        attempts=order.attempts,
        next_attempt_at=None if order.next_attempt_us is None else time_text(order.next_attempt_us),
        version=order.version,
        account_seq=order.account_seq,
        created_at=time_text(order.created_us),
        updated_at=time_text(order.updated_us),
    )
