"""Small builders for tests of the order service."""

from __future__ import annotations

from typing import Any

from infra.clock import Ids, ManualClock
from infra.contracts import Report, cl_ord_id
from infra.principal import Principal
from order_service.domain.checks import Limits, Listing
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Outcome, Ticket
from order_service.placing.place import PlaceOrder
from order_service.store.traces import traceparent_of
from order_service.store.unit import Change

NOW_US = 1_700_000_000_000_000
LIMITS = Limits(quantity_max=1_000_000, notional_max_micros=50_000_000 * 1_000_000)
LISTINGS = {
    "AAPL": Listing("AAPL", tick_micros=10_000, lot=1),
    "LOTS": Listing("LOTS", tick_micros=10_000, lot=100),
}
INVESTOR = Principal("ada", "investor", 1)
OTHER = Principal("bob", "investor", 2)
BACK_OFFICE = Principal("carol", "back_office")


def new_ids(seed: int = 1) -> Ids:
    return Ids(ManualClock(NOW_US * 1000), seed)


def ticket(**changes: Any) -> Ticket:
    values = {"order_type": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "DAY"}
    return Ticket(**{**values, "amount_micros": 580_250_000, **changes})


def request(ids: Ids, asker: Principal = INVESTOR, key: str | None = None, **changes: Any) -> PlaceOrder:
    order_id = str(ids.uuid7())
    assert asker.account_id is not None
    return PlaceOrder(asker, asker.account_id, order_id, ticket(**changes), key or order_id, traceparent_of(None, ids))


def order(order_id: str = "01890000-0000-7000-8000-000000000001", **changes: Any) -> Order:
    values: dict[str, Any] = {
        "id": order_id,
        "account_id": 1,
        "order_type": "buy",
        "type": "LIMIT",
        "symbol": "AAPL",
        "quantity": 10,
        "amount_micros": 580_250_000,
        "tif": "DAY",
        "status": Status.PENDING,
        "pending": None,
        "outcome": Outcome.UNSENT,
        "cum_qty": 0,
        "leaves_qty": 10,
        "cum_notional_micros": 0,
        "exchange_order_id": None,
        "cl_ord_id": cl_ord_id(order_id, 1),
        "requests": 1,
        "venue_seq": 0,
        "idempotency_key": order_id,
        "request_hash": "0" * 64,
        "reason": None,
        "attempts": 0,
        "next_attempt_us": None,
        "version": 1,
        "account_seq": 0,
        "created_us": NOW_US,
        "updated_us": NOW_US,
    }
    return Order(**{**values, **changes})


def change(ids: Ids, type_: str = "OrderPlaced") -> Change:
    return Change(type=type_, cause="test", event_id=str(ids.uuid7()), traceparent=traceparent_of(None, ids))


def report(of: Order | str, exec_type: str | None = None, request_number: int = 1, **changes: Any) -> Report:
    order_id = of if isinstance(of, str) else of.id
    values: dict[str, Any] = {
        "kind": "execution",
        "order_id": order_id,
        "cl_ord_id": cl_ord_id(order_id, request_number),
        "source": "webhook",
        "received_ns": NOW_US * 1000,
        "exchange_order_id": "V-1",
        "exec_type": exec_type,
        "exec_id": f"E-{changes.get('venue_seq', 0)}",
    }
    return Report(**{**values, **changes})


def fill(of: Order | str, qty: int, micros: int, venue_seq: int, **changes: Any) -> Report:
    return report(of, "TRADE", last_qty=qty, last_micros=micros, venue_seq=venue_seq, **changes)


def outcome(of: Order | str, word: str, request_number: int = 1, **changes: Any) -> Report:
    order_id = of if isinstance(of, str) else of.id
    return report(
        order_id,
        kind="send_outcome",
        outcome=word,
        request_number=request_number,
        exec_id=None,
        exchange_order_id=None,
        source="answer",
        **changes,
    )
