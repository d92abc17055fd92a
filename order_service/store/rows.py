"""Rows of the tables as the values they stand for, and back. Pure; the order of a row's columns is that of the column
lists in `statements_pg`."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from order_service.domain.breaks import Break
from order_service.domain.executions import ExecKey, Execution
from order_service.domain.ledger import Balance
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Outcome, Pending, Why
from order_service.store.order_json import why_of
from order_service.store.unit import Account, EventRow, LedgerRow

Row = Sequence[Any]


def order_of(row: Row) -> Order:
    values = dict(zip(Order.__slots__, row, strict=True))
    pending = values["pending"]
    values |= {
        "status": Status(values["status"]),
        "standing": Status(values["standing"]),
        "pending": None if pending is None else Pending(pending),
        "outcome": Outcome(values["outcome"]),
        "reason": why_of(values["reason"]),
    }
    return Order(**values)


class NewOrder(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """An order's row. What a new order has not yet is left out, which is half of it."""

    id: str
    account_id: int
    order_type: str
    type: str
    symbol: str
    quantity: int
    amount_micros: int | None = None
    tif: str
    status: str = Status.PENDING
    standing: str = Status.PENDING
    pending: str | None = None
    outcome: str = Outcome.UNSENT
    cum_qty: int = 0
    leaves_qty: int
    cum_notional_micros: int = 0
    exchange_order_id: str | None = None
    cl_ord_id: str
    replaces: str | None = None
    requests: int = 1
    asked_quantity: int | None = None
    asked_micros: int | None = None
    venue_seq: int = 0
    terms_seq: int = 0
    reserve_micros: int | None = None
    fee_per_share_micros: int = 0
    fee_min_micros: int = 0
    idempotency_key: str
    request_hash: str
    reason: Why | None = None
    attempts: int = 0
    next_attempt_us: int | None = None
    not_after_us: int | None = None
    version: int = 1
    account_seq: int
    created_us: int
    updated_us: int


_FIELDS = NewOrder.__struct_fields__
_values = attrgetter(*_FIELDS)


def order_row(order: Order) -> NewOrder:
    return NewOrder(**dict(zip(_FIELDS, _values(order), strict=True)))


def event_of(row: Row) -> EventRow:
    return EventRow(**dict(zip(EventRow.__struct_fields__, row, strict=True)))


def account_of(row: Row) -> Account:
    number, status, seq, available, reserved, unsettled, *rest = row
    open_orders, earlier_shares, second, in_second, recent, blocked_reason = rest
    return Account(
        id=number,
        status=status,
        seq=seq,
        cash=Balance(available, reserved, unsettled),
        open_orders=open_orders,
        earlier_shares=earlier_shares,
        second=second,
        in_second=in_second,
        recent=tuple((text, us) for text, us in recent or ()),
        blocked_reason=blocked_reason,
    )


def account_row(account: Account) -> dict[str, object]:
    cash = account.cash
    return {
        "id": account.id,
        "seq": account.seq,
        "status": account.status,
        "available": cash.available,
        "reserved": cash.reserved,
        "unsettled": cash.unsettled,
        "open_orders": account.open_orders,
        "earlier_shares": account.earlier_shares,
        "second": account.second,
        "in_second": account.in_second,
        "recent": account.recent,
        "blocked_reason": account.blocked_reason,
    }


def position_row(place: tuple[int, str], moved: Balance) -> dict[str, object]:
    return {
        "account_id": place[0],
        "symbol": place[1],
        "available": moved.available,
        "reserved": moved.reserved,
        "unsettled": moved.unsettled,
    }


def execution_of(row: Row) -> Execution:
    order_id, exec_id, venue_seq, kind, account_id, symbol, side, last_qty, last_micros, transact_ns, source, ref = row
    return Execution(
        key=ExecKey(order_id, exec_id, venue_seq),
        kind=kind,
        account_id=account_id,
        symbol=symbol,
        side=side,
        last_qty=last_qty,
        last_micros=last_micros,
        transact_ns=transact_ns,
        source=source,
        exec_ref_id=ref,
    )


def execution_row(execution: Execution) -> dict[str, object]:
    return execution.key._asdict() | {
        "kind": execution.kind,
        "account_id": execution.account_id,
        "symbol": execution.symbol,
        "side": execution.side,
        "last_qty": execution.last_qty,
        "last_micros": execution.last_micros,
        "transact_ns": execution.transact_ns,
        "source": execution.source,
        "exec_ref_id": execution.exec_ref_id,
        "fill_id": execution.fill_id,
    }


def ledger_row(row: LedgerRow) -> dict[str, object]:
    transfer = row.transfer
    return {
        "event_id": row.event_id,
        "line": row.line,
        "order_id": row.order_id,
        "asset": transfer.asset,
        "amount": transfer.amount,
        "source_account": transfer.source.account_id,
        "source_book": transfer.source.name,
        "target_account": transfer.target.account_id,
        "target_book": transfer.target.name,
        "at_us": row.at_us,
    }


def break_of(row: Row) -> Break:
    kind, subject, order_id, account_id, ours, theirs, proposal, state, note, seen_us = row
    return Break(
        kind=kind,
        subject=subject,
        order_id=order_id,
        account_id=account_id,
        ours=ours,
        theirs=theirs,
        proposal=proposal,
        state=state,
        note=note,
        seen_us=seen_us,
    )


def break_row(found: Break) -> dict[str, object]:
    return {
        "id": found.id,
        "kind": found.kind,
        "subject": found.subject,
        "order_id": found.order_id,
        "account_id": found.account_id,
        "ours": found.ours,
        "theirs": found.theirs,
        "proposal": found.proposal,
        "state": found.state,
        "note": found.note,
        "seen_us": found.seen_us,
    }
