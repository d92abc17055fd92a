"""The twin of the PostgreSQL store: one process's memory, the same refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from infra.outbox import OutboxRow
from infra.principal import Principal
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution
from order_service.domain.ledger import Balance
from order_service.domain.lifecycle import ENDS
from order_service.domain.order import Order
from order_service.store.funding import DEMO_ACCOUNTS, DEMO_FUNDS, Funds, deposits, entry_id
from order_service.store.ports import ConflictError, Filter, OpenOrder, OpenOrders
from order_service.store.unit import Account, EventRow, LedgerRow, Unit, Want

T = TypeVar("T")
Place = tuple[int, str]


class MemoryOrders:
    """Accounts exist, and are funded, from the start. The outbox keeps its rows in commit order for the relay's memory
    source. What lies in its tables, `memory_books` and `memory_watch` read too."""

    def __init__(self, accounts: Iterable[int] = DEMO_ACCOUNTS, funds: Funds = DEMO_FUNDS) -> None:
        self.outbox: list[OutboxRow] = []
        self.accounts = {number: Account(number) for number in accounts}
        self.positions: dict[Place, Balance] = {}
        self.orders: dict[str, Order] = {}
        self.histories: dict[str, list[EventRow]] = {}
        self.executions: dict[str, list[Execution]] = {}
        self.ledger: dict[tuple[str, int], LedgerRow] = {}
        self.breaks: dict[str, Break] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._account_events: dict[int, list[EventRow]] = {number: [] for number in self.accounts}
        self._changed = asyncio.Event()
        for number in self.accounts:
            unit = self._load(Want(accounts=frozenset({number})))
            unit.book(deposits(number, funds), entry_id(number, "opening"), None, 0)
            self._save(unit)

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
        order = self.orders.get(order_id)
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

        found = sorted(filter(shown, self.orders.values()), key=lambda order: order.id, reverse=True)
        return found[: wanted.limit]

    async def events(self, asker: Principal, order_id: str) -> list[EventRow]:
        return [event for event in self.histories.get(order_id, []) if asker.may_see(event.account_id)]

    async def events_since(self, asker: Principal, account_id: int, seq: int, limit: int) -> list[EventRow]:
        if not asker.may_see(account_id):
            return []
        return self._account_events.get(account_id, [])[max(seq, 0) :][:limit]

    async def open_orders(self, asker: Principal, account_id: int) -> OpenOrders | None:
        account = self.accounts.get(account_id)
        if account is None or not asker.may_see(account_id):
            return None
        mine = [order for order in self.orders.values() if order.account_id == account_id and not order.final]
        return OpenOrders(account.seq, sorted(OpenOrder(order.id, order.version, order.status) for order in mine))

    def unpublished(self, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        """Rows behind the `after`-th one, numbered from 1 in commit order: what the relay reads."""
        return list(enumerate(self.outbox[after : after + limit], after + 1))

    async def outbox_changed(self) -> None:
        """Until another row is committed."""
        await self._changed.wait()

    def _load(self, want: Want) -> Unit:
        """The unit's balances are copies, because decisions change them in place."""
        orders = [self.orders[i] for i in want.orders if i in self.orders]
        numbers = want.accounts | {order.account_id for order in orders}
        places = want.positions | {(order.account_id, order.symbol) for order in orders}
        orders += [self.orders[self._keys[key]] for key in want.keys if key in self._keys]
        unit = Unit(
            accounts={number: _copied(self.accounts[number]) for number in numbers if number in self.accounts},
            positions={place: replace(self.positions[place]) for place in places if place in self.positions},
        )
        for order in orders:
            unit.loaded(order)
        for order_id, exec_id in want.executions:
            known = self.executions.get(order_id, [])
            unit.known |= {execution.key: execution for execution in known if execution.fill_id == exec_id}
        return unit

    def _check(self, unit: Unit) -> None:
        """What the tables' constraints hold in PostgreSQL."""
        if missing := unit.touched - self.accounts.keys():
            raise ConflictError(f"there is no account {min(missing)}")
        for order in unit.inserted.values():
            if order.id in self.orders or (order.account_id, order.idempotency_key) in self._keys:
                raise ConflictError(f"order {order.id} or its key is stored already")
        for version, order in unit.updated.values():
            if self.orders[order.id].version != version:
                raise ConflictError(f"order {order.id} is not at version {version} any more")
        for order in [*unit.inserted.values(), *(order for _, order in unit.updated.values())]:
            if (order.final and order.leaves_qty) or (order.standing in ENDS and order.pending):
                raise ConflictError(f"order {order.id} is {order.status} and not settled")
        for execution in unit.executions:
            known = self.executions.get(execution.key.order_id, [])
            if any(other.key == execution.key for other in known):
                raise ConflictError(f"the execution {execution.key} is stored already")
        for row in unit.ledger:
            if (row.event_id, row.line) in self.ledger:
                raise ConflictError(f"the entry {row.event_id} is booked already")

    def _save(self, unit: Unit) -> None:
        for order in [*unit.inserted.values(), *(order for _, order in unit.updated.values())]:
            self.orders[order.id] = order
            self._keys[order.account_id, order.idempotency_key] = order.id
        for event in unit.events:
            self.histories.setdefault(event.order_id, []).append(event)
            self._account_events[event.account_id].append(event)
        for execution in unit.executions:
            self.executions.setdefault(execution.key.order_id, []).append(execution)
        self.ledger |= {(row.event_id, row.line): row for row in unit.ledger}
        self.accounts |= {number: unit.accounts[number] for number in unit.touched}
        for place, moved in unit.moved.items():
            balance = self.positions.setdefault(place, Balance())
            balance.available += moved.available
            balance.reserved += moved.reserved
            balance.unsettled += moved.unsettled
        self.note(unit.breaks.values())
        if unit.outbox:
            self.outbox += unit.outbox
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def note(self, found: Iterable[Break]) -> None:
        """A difference keeps its age. A closed one that is found again is opened again only when its numbers are
        others."""
        for one in found:
            known = self.breaks.get(one.id)
            if known is None:
                self.breaks[one.id] = one
            elif known.state == "open" or (known.ours, known.theirs) != (one.ours, one.theirs):
                self.breaks[one.id] = replace(one, seen_us=known.seen_us, note=one.note or known.note)


def _copied(account: Account) -> Account:
    return replace(account, cash=replace(account.cash))
