"""A batch between load and save: what was loaded, and what the decisions changed. Pure memory, both stores share it.

Decisions run one by one in arrival order and see each other's effects through the unit, so two commands for one order,
or one key twice, behave in one batch as they would in two. If a decision raises, nothing of the batch is saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from infra.contracts import ORDER_EVENTS, ORDERS, Command, encode
from infra.outbox import OutboxRow
from order_service.domain.order import Order
from order_service.store.order_json import event_payload


@dataclass(frozen=True, slots=True)
class Want:
    """What a batch needs. The account rows, those of the orders included, are locked in key order before the rest is
    read."""

    accounts: frozenset[int] = frozenset()
    keys: frozenset[tuple[int, str]] = frozenset()
    orders: frozenset[str] = frozenset()
    fills: frozenset[tuple[str, str]] = frozenset()


@dataclass(slots=True)
class Account:
    """`seq` is the number of the account's last event; it rises by one with each."""

    id: int
    status: Literal["active", "blocked"]
    seq: int


class FillKey(NamedTuple):
    """One fill. ExecID is unique per venue and session only, and an order may live through several sessions; together
    with the order's own report number at the venue it is unique for ever."""

    order_id: str
    exec_id: str
    venue_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One fill as the exchange reported it. Prices in micros, `transact_ns` by the exchange's clock."""

    key: FillKey
    account_id: int
    last_qty: int
    last_micros: int
    transact_ns: int
    source: str

    @property
    def terms(self) -> tuple[int, int]:
        return self.last_qty, self.last_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happened to an order, for its event. `cause` says who or what: `client:<subject>`, `exec:<ExecID>` …"""

    type: str
    cause: str
    event_id: str
    traceparent: str
    exec_id: str | None = None


@dataclass(slots=True)
class Unit:
    """Loaded state first, then the changes to save."""

    accounts: dict[int, Account] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    keys: dict[tuple[int, str], str] = field(default_factory=dict)
    fills: dict[FillKey, Execution] = field(default_factory=dict)

    inserted: dict[str, Order] = field(default_factory=dict)
    updated: dict[str, tuple[int, Order]] = field(default_factory=dict)  # version as loaded, newest value
    events: list[EventRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.events or self.outbox or self.executions)

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
        if order.account_seq != account.seq:
            order = order.numbered(account.seq)
        if before is None or order.id in self.inserted:
            self.inserted[order.id] = order
        else:
            first = self.updated.get(order.id, (before.version, before))[0]
            self.updated[order.id] = (first, order)
        self.loaded(order)
        self._event(order, change)
        return order

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

    def fill(self, execution: Execution) -> None:
        self.fills[execution.key] = execution
        self.executions.append(execution)

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
