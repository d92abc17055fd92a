"""Orders put into a store directly, without a desk: for tests of the stores themselves."""

from __future__ import annotations

from typing import Any

from infra.clock import Ids, ManualClock
from infra.contracts import Command, cl_ord_id
from infra.principal import Principal, system
from order_service.domain import facts
from order_service.domain.executions import ExecKey, Execution
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Outcome
from order_service.store.ports import OrderStore
from order_service.store.unit import Change, Unit, Want

NOW_US = 1_700_000_000_000_000
USD = 1_000_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DESK = system("test")
INVESTOR = Principal("ada", "investor", 1)
OTHER = Principal("bob", "investor", 2)
BACK_OFFICE = Principal("carol", "back_office")


def new_ids(seed: int = 1) -> Ids:
    return Ids(ManualClock(NOW_US * 1000), seed)


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
        "standing": Status.PENDING,
        "pending": None,
        "outcome": Outcome.UNSENT,
        "cum_qty": 0,
        "leaves_qty": changes.get("quantity", 10),
        "cum_notional_micros": 0,
        "exchange_order_id": None,
        "cl_ord_id": cl_ord_id(order_id, 1),
        "replaces": None,
        "requests": 1,
        "asked_quantity": None,
        "asked_micros": None,
        "venue_seq": 0,
        "terms_seq": 0,
        "reserve_micros": None,
        "fee_per_share_micros": 0,
        "fee_min_micros": 0,
        "idempotency_key": order_id,
        "request_hash": "0" * 64,
        "reason": None,
        "attempts": 0,
        "next_attempt_us": None,
        "not_after_us": None,
        "version": 1,
        "account_seq": 0,
        "created_us": NOW_US,
        "updated_us": NOW_US,
    }
    return Order(**{**values, **changes})


def change(ids: Ids, type_: str = "OrderPlaced") -> Change:
    return Change(type=type_, cause="test", event_id=str(ids.uuid7()), traceparent=TRACE)


async def placed(store: OrderStore, ids: Ids, asker: Principal = INVESTOR, **changes: Any) -> Order:
    """Stored as a desk would, without its checks: the order, its event, the command to the exchange."""
    assert asker.account_id is not None
    new = order(str(ids.uuid7()), account_id=asker.account_id, **changes)

    def record(unit: Unit) -> Order:
        done = unit.record(new, change(ids))
        unit.command(submit(done, str(ids.uuid7())), TRACE)
        return done

    return await store.write(DESK, Want(accounts=frozenset({new.account_id})), record)


def submit(new: Order, event_id: str) -> Command:
    return Command(
        kind="submit",
        event_id=event_id,
        order_id=new.id,
        account_id=new.account_id,
        cl_ord_id=new.cl_ord_id,
        symbol=new.symbol,
        order_type="buy",
        type="LIMIT",
        tif="DAY",
        quantity=new.quantity,
        limit_micros=new.amount_micros,
        idempotency_key=new.idempotency_key,
        requested_ns=new.created_us * 1000,
    )


def execution(of: Order, exec_id: str, venue_seq: int, qty: int, micros: int, **changes: Any) -> Execution:
    values: dict[str, Any] = {"kind": "fill", "source": "answer", "transact_ns": 9} | changes
    key = ExecKey(of.id, exec_id, venue_seq)
    return Execution(
        key=key,
        account_id=of.account_id,
        symbol=of.symbol,
        side=of.order_type,
        last_qty=qty,
        last_micros=micros,
        **values,
    )


async def apply(store: OrderStore, ids: Ids, of: Order, fact: facts.Fact, name: str = "OrderUpdated") -> Order:
    def record(unit: Unit) -> Order:
        return unit.record(facts.apply(unit.orders[of.id], fact, NOW_US + 7), change(ids, name))

    return await store.write(DESK, Want(orders=frozenset({of.id})), record)
