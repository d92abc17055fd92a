"""How an order is written as JSON: in the answers of the HTTP API and, the very same, in the events about it; and read
back from its events.

Amounts are JSON numbers with their exact decimals, written from integers; they never pass through a float.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw

from infra.contracts import cl_ord_id
from order_service.domain.lifecycle import Status
from order_service.domain.money import average_micros, micros_of, text_of
from order_service.domain.order import Order, Outcome, Pending, Why

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULL = Raw(b"null")
_encoder = msgspec.json.Encoder()


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What a pending replace asks for."""

    quantity: int
    amount: Raw


class OrderJson(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The Order JSON. `amount` and `averagePrice` are USD per share. `clOrdId` is the ClOrdID that the exchange knows
    the order by, `replaces` the one before it, `replacedBy` that of a replace on its way."""

    id: str
    account_id: int
    order_type: str
    type: str
    symbol: str
    quantity: int
    amount: Raw
    time_in_force: str
    status: str
    pending: str | None
    outcome: str
    cum_quantity: int
    leaves_quantity: int
    average_price: Raw
    exchange_order_id: str | None
    cl_ord_id: str
    replaces: str | None
    replaced_by: str | None
    asked: Asked | None
    not_after: str | None
    idempotency_key: str
    reason: Why | None
    attempts: int
    next_attempt_at: str | None
    version: int
    account_seq: int
    created_at: str
    updated_at: str


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an order has beside its Order JSON. `standing` is None where it is the status, `request_hash` is in the
    order's first event only."""

    standing: Status | None = None
    requests: int = 1
    cum_notional_micros: int = 0
    venue_seq: int = 0
    terms_seq: int = 0
    reserve_micros: int | None = None
    fee_per_share_micros: int = 0
    fee_min_micros: int = 0
    request_hash: str = ""


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
    state: State = State()


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


class _Named(msgspec.Struct, frozen=True, gc=False):
    id: str


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What a reader of `order-events` needs to know of an event before it looks inside."""

    event_id: str
    account_id: int
    account_seq: int


_event_decoder = msgspec.json.Decoder(_Event)
_named_decoder = msgspec.json.Decoder(_Named)
_order_decoder = msgspec.json.Decoder(OrderJson)


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
        _state(order),
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


def id_in(order: bytes) -> str:
    """The id in an Order JSON."""
    return _named_decoder.decode(order).id


def order_in(payload: str | bytes) -> bytes:
    """The order as an event shows it, byte for byte."""
    return bytes(_event_decoder.decode(payload).order)


def rebuilt(payloads: Sequence[str]) -> Order:
    """The order after its last event, from the messages about all its changes, oldest first. Raises ValueError when
    there is none, or when one is not such a message."""
    if not payloads:
        raise ValueError("an order without events")
    try:
        first, last = _event_decoder.decode(payloads[0]), _event_decoder.decode(payloads[-1])
        return _order(_order_decoder.decode(last.order), last.state, first.state.request_hash)
    except (msgspec.DecodeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error


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
    average = average_micros(order.cum_notional_micros, order.cum_qty) if order.cum_qty > 0 else None
    replacing = order.pending is Pending.REPLACE and order.asked_quantity is not None
    return OrderJson(
        id=order.id,
        account_id=order.account_id,
        order_type=order.order_type,
        type=order.type,
        symbol=order.symbol,
        quantity=order.quantity,
        amount=_amount(order.amount_micros),
        time_in_force=order.tif,
        status=order.status,
        pending=order.pending,
        outcome=order.outcome,
        cum_quantity=order.cum_qty,
        leaves_quantity=order.leaves_qty,
        average_price=_amount(average),
        exchange_order_id=order.exchange_order_id,
        cl_ord_id=order.cl_ord_id,
        replaces=order.replaces,
        replaced_by=cl_ord_id(order.id, order.requests) if order.pending is Pending.REPLACE else None,
        asked=Asked(order.asked_quantity or 0, _amount(order.asked_micros)) if replacing else None,
        not_after=_time(order.not_after_us),
        idempotency_key=order.idempotency_key,
        reason=order.reason,
        attempts=order.attempts,
        next_attempt_at=_time(order.next_attempt_us),
        version=order.version,
        account_seq=order.account_seq,
        created_at=time_text(order.created_us),
        updated_at=time_text(order.updated_us),
    )


def _order(shown: OrderJson, state: State, request_hash: str) -> Order:
    status = Status(shown.status)
    return Order(
        id=shown.id,
        account_id=shown.account_id,
        order_type=shown.order_type,
        type=shown.type,
        symbol=shown.symbol,
        quantity=shown.quantity,
        amount_micros=_micros(shown.amount),
        tif=shown.time_in_force,
        status=status,
        standing=state.standing or status,
        pending=None if shown.pending is None else Pending(shown.pending),
        outcome=Outcome(shown.outcome),
        cum_qty=shown.cum_quantity,
        leaves_qty=shown.leaves_quantity,
        cum_notional_micros=state.cum_notional_micros,
        exchange_order_id=shown.exchange_order_id,
        cl_ord_id=shown.cl_ord_id,
        replaces=shown.replaces,
        requests=state.requests,
        asked_quantity=None if shown.asked is None else shown.asked.quantity,
        asked_micros=None if shown.asked is None else _micros(shown.asked.amount),
        venue_seq=state.venue_seq,
        terms_seq=state.terms_seq,
        reserve_micros=state.reserve_micros,
        fee_per_share_micros=state.fee_per_share_micros,
        fee_min_micros=state.fee_min_micros,
        idempotency_key=shown.idempotency_key,
        request_hash=request_hash,
        reason=shown.reason,
        attempts=shown.attempts,
        next_attempt_us=_us(shown.next_attempt_at),
        not_after_us=_us(shown.not_after),
        version=shown.version,
        account_seq=shown.account_seq,
        created_us=_us(shown.created_at) or 0,
        updated_us=_us(shown.updated_at) or 0,
    )


def _state(order: Order) -> State:
    return State(
        standing=None if order.standing is order.status else order.standing,
        requests=order.requests,
        cum_notional_micros=order.cum_notional_micros,
        venue_seq=order.venue_seq,
        terms_seq=order.terms_seq,
        reserve_micros=order.reserve_micros,
        fee_per_share_micros=order.fee_per_share_micros,
        fee_min_micros=order.fee_min_micros,
        request_hash=order.request_hash if order.version == 1 else "",
    )


def _amount(micros: int | None) -> Raw:
    return _NULL if micros is None else Raw(text_of(micros).encode())


def _time(us: int | None) -> str | None:
    return None if us is None else time_text(us)


def _micros(amount: Raw) -> int | None:
    return None if amount == _NULL else micros_of(Decimal(bytes(amount).decode()))


def _us(time: str | None) -> int | None:
    return None if time is None else (datetime.fromisoformat(time) - _EPOCH) // timedelta(microseconds=1)
