"""The twin of the books on PostgreSQL, over the tables of `memory`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.clock import Clock
from infra.principal import Principal
from order_service.domain.breaks import Break
from order_service.domain.ledger import HOUSE, Balance, Transfer
from order_service.store import audit, posting
from order_service.store.memory import MemoryOrders
from order_service.store.unit import Account


@dataclass(frozen=True, slots=True)
class MemoryBooks:
    orders: MemoryOrders
    clock: Clock

    async def account(self, asker: Principal, account_id: int) -> Account | None:
        account = self.orders.accounts.get(account_id) if asker.may_see(account_id) else None
        return None if account is None else replace(account, cash=replace(account.cash))

    async def positions(self, asker: Principal, account_id: int) -> dict[str, Balance]:
        if not asker.may_see(account_id):
            return {}
        return {
            symbol: replace(balance)
            for (number, symbol), balance in sorted(self.orders.positions.items())
            if number == account_id and balance != Balance()
        }

    async def post(self, asker: Principal, transfers: Sequence[Transfer], entry_id: str) -> bool:
        return await posting.post(self.orders, asker, transfers, entry_id, self.clock.now_ns() // 1000)

    async def differences(self) -> list[Break]:
        tables, found = self.orders, audit.Audit(self.clock.now_ns() // 1000)
        sums: defaultdict[tuple[int, str, str], int] = defaultdict(int)
        of_order: defaultdict[str | None, list[Transfer]] = defaultdict(list)
        for row in tables.ledger.values():
            of_order[row.order_id].append(row.transfer)
            for book, amount in audit.sides(row.transfer):
                if book.account_id != HOUSE:
                    sums[book.account_id, row.transfer.asset, book.name] += amount
        for order in tables.orders.values():
            if not order.final:
                found.open(order)
            found.traded(order, tables.executions.get(order.id, []), audit.booked(of_order[order.id]))
        strays = [one for each in tables.executions.values() for one in each if one.account_id == HOUSE]
        found.strays(strays, audit.suspense(row.transfer for row in tables.ledger.values()))
        return found.found(tables.accounts, tables.positions, sums)
