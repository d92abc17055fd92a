"""The twin of the PostgreSQL store: one process's memory, the same refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from infra.outbox import OutboxRow
from infra.principal import Principal
from order_service.domain.order import Order
from order_service.store.ports import ConflictError, Filter
from order_service.store.unit import Account, EventRow, Execution, Unit, Want

T = TypeVar("T")


class MemoryOrders:
    """Accounts exist from the start. The outbox keeps its rows in commit order for the relay's memory source."""

    def __init__(self, accounts: Iterable[int] = (1, 2, 3, 4, 5)) -> None:
        self.outbox: list[OutboxRow] = []
        self._accounts = {number: Account(number, "active", 0) for number in accounts}
        self._orders: dict[str, Order] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._fills: dict[tuple[str, str], list[Execution]] = {}
        self._events: dict[str, list[EventRow]] = {}
        self._account_events: dict[int, list[EventRow]] = {number: [] for number in self._accounts}
        self._changed = asyncio.Event()

    async def write(self, asker: Principal, want: Want, decide: Callable[[Unit], T]) -> T:
        # Nothing is awaited between load and save, so no other write can come between.
        unit = self._load(want)
        decided = decide(unit)
        if unit.changed:
            self._check(unit)
            self._save(unit)
        await asyncio.sleep(0)
        return decided

    async def find(self, asker: Principal, order_id: str) -> Order | None:
        order = self._orders.get(order_id)
        return order if order and asker.may_see(order.account_id) else None

    async def page(self, asker: Principal, wanted: Filter) -> list[Order]:
        def shown(order: Order) -> bool:
            return (
                asker.may_see(order.account_id)
                and wanted.account_id in (None, order.account_id)
                and wanted.symbol in (None, order.symbol)
                and wanted.status in (None, order.status)
                and (wanted.before is None or order.id < wanted.before)
            )

        found = sorted(filter(shown, self._orders.values()), key=lambda order: order.id, reverse=True)
        return found[: wanted.limit]

    async def events(self, asker: Principal, order_id: str) -> list[EventRow]:
        return [event for event in self._events.get(order_id, []) if asker.may_see(event.account_id)]

    async def events_since(self, asker: Principal, account_id: int, seq: int, limit: int) -> list[EventRow]:
        if not asker.may_see(account_id):
            return []
        return self._account_events.get(account_id, [])[max(seq, 0) :][:limit]

    def unpublished(self, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        """Rows behind the `after`-th one, numbered from 1 in commit order: what the relay reads."""
        return list(enumerate(self.outbox[after : after + limit], after + 1))

    async def outbox_changed(self) -> None:
        """Until another row is committed."""
        await self._changed.wait()

    def _load(self, want: Want) -> Unit:
        orders = [self._orders[i] for i in want.orders if i in self._orders]
        orders += [self._orders[self._keys[key]] for key in want.keys if key in self._keys]
        numbers = want.accounts | {self._orders[i].account_id for i in want.orders if i in self._orders}
        accounts = [self._accounts[number] for number in numbers if number in self._accounts]
        unit = Unit(accounts={a.id: Account(a.id, a.status, a.seq) for a in accounts})
        for order in orders:
            unit.loaded(order)
        for order_id, exec_id in want.fills:
            unit.fills |= {execution.key: execution for execution in self._fills.get((order_id, exec_id), [])}
        return unit

    def _check(self, unit: Unit) -> None:
        """What the tables' constraints hold in PostgreSQL."""
        for order in unit.inserted.values():
            if order.id in self._orders or (order.account_id, order.idempotency_key) in self._keys:
                raise ConflictError(f"order {order.id} or its key is stored already")
        for version, order in unit.updated.values():
            if self._orders[order.id].version != version:
                raise ConflictError(f"order {order.id} is not at version {version} any more")
        for execution in unit.executions:
            known = self._fills.get(execution.key[:2], [])
            if any(other.key == execution.key for other in known):
                raise ConflictError(f"the fill {execution.key} is stored already")

    def _save(self, unit: Unit) -> None:
        for order in [*unit.inserted.values(), *(order for _, order in unit.updated.values())]:
            self._orders[order.id] = order
            self._keys[order.account_id, order.idempotency_key] = order.id
        for event in unit.events:
            self._events.setdefault(event.order_id, []).append(event)
            self._account_events[event.account_id].append(event)
        for execution in unit.executions:
            self._fills.setdefault(execution.key[:2], []).append(execution)
        self._accounts.update(unit.accounts)
        if unit.outbox:
            self.outbox += unit.outbox
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
