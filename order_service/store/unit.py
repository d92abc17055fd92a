"""A batch between load and save: what was loaded, and what the decisions changed. Pure memory, both stores share it.

Decisions run one by one in arrival order and see each other's effects through the unit, so two commands for one order,
or one key twice, behave in one batch as they would in two. If a decision raises, nothing of the batch is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from infra.contracts import ORDER_EVENTS, ORDERS, Command, encode
from infra.outbox import OutboxRow
from order_service.domain import ledger
from order_service.domain.breaks import Break
from order_service.domain.executions import ExecKey, Execution
from order_service.domain.ledger import CASH, HOUSE, Balance, Book, Transfer
from order_service.domain.order import Order
from order_service.store.order_json import event_payload


@dataclass(frozen=True, slots=True)
class Want:
    """What a batch needs. The account rows, those of the orders included, are locked in key order before the rest is
    read. `executions` are (order id, ExecID of a fill): the fill, its busts and corrections. `positions` are (account,
    symbol); those of the wanted orders are loaded with them."""

    accounts: frozenset[int] = frozenset()
    keys: frozenset[tuple[int, str]] = frozenset()
    orders: frozenset[str] = frozenset()
    executions: frozenset[tuple[str, str]] = frozenset()
    positions: frozenset[tuple[int, str]] = frozenset()


@dataclass(slots=True)
class Account:
    """`seq` is the number of the account's last event; it rises by one with each. `cash` is in micros. `earlier_shares`
    is what was traded in earlier sessions, for the fee tier. `second` and `in_second`: how many orders were placed in
    the last second (Unix) that had any. `recent`: request hash and time (µs) of the last few orders, newest last, for
    the duplicate guard."""

    id: int
    status: Literal["active", "blocked"] = "active"
    seq: int = 0
    cash: Balance = field(default_factory=Balance)
    open_orders: int = 0
    earlier_shares: int = 0
    second: int = 0
    in_second: int = 0
    recent: tuple[tuple[str, int], ...] = ()
    blocked_reason: str = ""


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One transfer of the books. (`event_id`, `line`) identifies it: the event of the order that moved it."""

    event_id: str
    line: int
    order_id: str | None
    transfer: Transfer
    at_us: int


class EventRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One change of one order. `payload` is the exact text of the message on `order-events`."""

    event_id: str
    order_id: str
    version: int
    account_id: int
    account_seq: int
    type: str
    cause: str
    at_ns: int
    exec_id: str | None
    payload: str


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What happened to an order, for its event. `cause` says who or what: `client:<subject>`, `exec:<ExecID>` …"""

    type: str
    cause: str
    event_id: str
    traceparent: str
    exec_id: str | None = None


@dataclass(slots=True)
class Unit:
    """Loaded state first, then the changes to save. `moved` is what the batch adds to positions, which are saved as
    additions."""

    accounts: dict[int, Account] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    keys: dict[tuple[int, str], str] = field(default_factory=dict)
    known: dict[ExecKey, Execution] = field(default_factory=dict)
    positions: dict[tuple[int, str], Balance] = field(default_factory=dict)

    inserted: dict[str, Order] = field(default_factory=dict)
    updated: dict[str, tuple[int, Order]] = field(default_factory=dict)  # version as loaded, newest value
    events: list[EventRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    ledger: list[LedgerRow] = field(default_factory=list)
    moved: dict[tuple[int, str], Balance] = field(default_factory=dict)
    breaks: dict[str, Break] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)  # accounts whose row changed
    _by_fill: dict[tuple[str, str], list[Execution]] | None = None  # an index of `known`, once asked for

    @property
    def changed(self) -> bool:
        return bool(self.events or self.outbox or self.executions or self.ledger or self.breaks or self.touched)

    def loaded(self, order: Order) -> None:
        self.orders[order.id] = order
        self.keys[order.account_id, order.idempotency_key] = order.id

    def first_of_key(self, account_id: int, key: str) -> Order | None:
        order_id = self.keys.get((account_id, key))
        return None if order_id is None else self.orders[order_id]

    def record(self, order: Order, change: Change) -> Order:
        """Take the order's new value into the batch, with its event and the message about it; returns it numbered."""
        account = self.accounts[order.account_id]
        before = self.orders.get(order.id)
        assert order.version == (before.version if before else 0) + 1, "each change is exactly one version"
        account.seq += 1
        account.open_orders += (not order.final) - (before is not None and not before.final)
        self.touched.add(account.id)
        if order.account_seq != account.seq:
            order = order.numbered(account.seq)
        if before is None or order.id in self.inserted:
            self.inserted[order.id] = order
        else:
            first = self.updated.get(order.id, (before.version, before))[0]
            self.updated[order.id] = (first, order)
        self.loaded(order)
        self.book(ledger.transfers(before, order), change.event_id, order.id, order.updated_us)
        self._event(order, change)
        return order

    def position(self, account_id: int, symbol: str) -> Balance:
        """Shares of one symbol as the batch sees them."""
        place = (account_id, symbol)
        found = self.positions.get(place)
        if found is None:
            found = self.positions[place] = Balance()
        return found

    def book(self, transfers: list[Transfer], event_id: str, order_id: str | None, at_us: int) -> None:
        """Move amounts between books. An account's balances move with its books; the house has none."""
        for line, transfer in enumerate(transfers):
            self.ledger.append(
                LedgerRow(event_id=event_id, line=line, order_id=order_id, transfer=transfer, at_us=at_us)
            )
            self._move(transfer.source, transfer.asset, -transfer.amount)
            self._move(transfer.target, transfer.asset, transfer.amount)

    def broken(self, found: Break) -> None:
        """Have a difference listed."""
        self.breaks[found.id] = found

    def block(self, account_id: int, reason: str) -> None:
        """No further orders from this account until a person has looked."""
        account = self.accounts[account_id]
        account.status, account.blocked_reason = "blocked", reason
        self.touched.add(account_id)

    def command(self, command: Command, traceparent: str) -> None:
        """Have the exchange told, once the batch is committed."""
        row = OutboxRow(
            id=command.event_id,
            aggregatetype=ORDERS,
            aggregateid=command.order_id,
            type=command.kind,
            payload=encode(command).decode(),
            idempotency_key=command.idempotency_key or command.event_id,
            traceparent=traceparent,
        )
        self.outbox.append(row)

    def of_fill(self, order_id: str, fill_id: str) -> Sequence[Execution]:
        """The known executions that are one fill, or about it."""
        if self._by_fill is None:
            self._by_fill = {}
            for one in self.known.values():
                self._by_fill.setdefault((one.key.order_id, one.fill_id), []).append(one)
        return self._by_fill.get((order_id, fill_id), ())

    def executed(self, execution: Execution) -> None:
        self.of_fill(execution.key.order_id, execution.fill_id)
        assert self._by_fill is not None
        self._by_fill.setdefault((execution.key.order_id, execution.fill_id), []).append(execution)
        self.known[execution.key] = execution
        self.executions.append(execution)

    def _move(self, book: Book, asset: str, amount: int) -> None:
        if book.account_id == HOUSE:
            return
        self.touched.add(book.account_id)
        if asset == CASH:
            _add(self.accounts[book.account_id].cash, book.name, amount)
            return
        place = (book.account_id, asset)
        _add(self.position(*place), book.name, amount)
        if place not in self.moved:
            self.moved[place] = Balance()
        _add(self.moved[place], book.name, amount)

    def _event(self, order: Order, change: Change) -> None:
        at_ns = order.updated_us * 1000
        payload = event_payload(order, change.event_id, change.type, change.cause, at_ns)
        self.events.append(
            EventRow(
                event_id=change.event_id,
                order_id=order.id,
                version=order.version,
                account_id=order.account_id,
                account_seq=order.account_seq,
                type=change.type,
                cause=change.cause,
                at_ns=at_ns,
                exec_id=change.exec_id,
                payload=payload,
            )
        )
        self.outbox.append(
            OutboxRow(
                id=change.event_id,
                aggregatetype=ORDER_EVENTS,
                aggregateid=str(order.account_id),
                type=change.type,
                payload=payload,
                idempotency_key=order.idempotency_key,
                traceparent=change.traceparent,
            )
        )


def _add(balance: Balance, name: str, amount: int) -> None:
    if name == "available":
        balance.available += amount
    elif name == "reserved":
        balance.reserved += amount
    else:
        balance.unsettled += amount
