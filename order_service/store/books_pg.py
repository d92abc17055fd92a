"""The books on PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from infra.clock import Clock
from infra.db import driver
from infra.principal import Principal
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution
from order_service.domain.ledger import Balance, Transfer
from order_service.domain.lifecycle import FINAL
from order_service.store import posting, rows
from order_service.store import statements_pg as sql
from order_service.store.audit import Audit, Booked
from order_service.store.orders_pg import PgOrders, own
from order_service.store.unit import Account

PAGE = 1_000

ACCOUNT = f"SELECT {sql.ACCOUNT_COLUMNS} FROM accounts WHERE id = %(id)s AND (%(own)s::bigint IS NULL OR id = %(own)s)"
POSITIONS = f"""SELECT symbol, available, reserved, unsettled FROM positions WHERE account_id = %(id)s AND {sql.SEEN}
 AND (available, reserved, unsettled) <> (0, 0, 0) ORDER BY symbol"""

# -- the audit: every statement of one transaction that sees one moment ------------------------------------------------
ALL_ACCOUNTS = f"SELECT {sql.ACCOUNT_COLUMNS} FROM accounts"
ALL_POSITIONS = "SELECT account_id, symbol, available, reserved, unsettled FROM positions"
LEDGER_SUMS = """SELECT account, asset, book, sum(amount)::bigint FROM (
 SELECT source_account AS account, asset, source_book AS book, -amount AS amount FROM ledger
 UNION ALL SELECT target_account, asset, target_book, amount FROM ledger) AS sides
 WHERE account <> 0 GROUP BY account, asset, book"""
SUSPENSE = """SELECT asset, sum(CASE target_book WHEN 'suspense' THEN amount ELSE -amount END)::bigint FROM ledger
 WHERE source_account = 0 AND target_account = 0 AND source_book IN ('suspense', 'clearing')
 AND target_book IN ('suspense', 'clearing') GROUP BY asset"""
STRAYS = f"SELECT {sql.EXECUTION_COLUMNS} FROM executions WHERE account_id = 0"
OPEN = f"SELECT {sql.ORDER_COLUMNS} FROM orders WHERE status <> ALL(%s)"
EXECUTIONS = f"SELECT {sql.EXECUTION_COLUMNS} FROM executions WHERE executions.order_id = ANY(%s::uuid[])"
TRADED = f"""WITH booked AS (SELECT order_id,
 sum(CASE WHEN asset <> 'USD' THEN 0 WHEN (target_account, target_book) = (0, 'clearing') THEN amount
 WHEN (source_account, source_book) = (0, 'clearing') THEN -amount ELSE 0 END)::bigint AS cash,
 sum(CASE WHEN asset = 'USD' THEN 0 WHEN (target_account, target_book) = (0, 'clearing') THEN -amount
 WHEN (source_account, source_book) = (0, 'clearing') THEN amount ELSE 0 END)::bigint AS shares,
 sum(CASE WHEN (target_account, target_book) = (0, 'fees') THEN amount
 WHEN (source_account, source_book) = (0, 'fees') THEN -amount ELSE 0 END)::bigint AS fee
 FROM ledger WHERE order_id IS NOT NULL AND (source_account = 0 OR target_account = 0) GROUP BY order_id)
 SELECT coalesce(cash, 0), coalesce(shares, 0), coalesce(fee, 0), {sql.ORDER_COLUMNS}
 FROM orders LEFT JOIN booked ON booked.order_id = orders.id
 WHERE booked.order_id IS NOT NULL OR cum_qty <> 0 OR cum_notional_micros <> 0
 OR EXISTS (SELECT 1 FROM executions WHERE executions.order_id = orders.id)"""


@dataclass(frozen=True, slots=True)
class PgBooks:
    orders: PgOrders
    clock: Clock

    async def account(self, asker: Principal, account_id: int) -> Account | None:
        found = await self.orders.read(ACCOUNT, {"id": account_id, "own": own(asker)})
        return rows.account_of(found[0]) if found else None

    async def positions(self, asker: Principal, account_id: int) -> dict[str, Balance]:
        found = await self.orders.read(POSITIONS, {"id": account_id, "own": own(asker)})
        return {symbol: Balance(*balance) for symbol, *balance in found}

    async def post(self, asker: Principal, transfers: Sequence[Transfer], entry_id: str) -> bool:
        return await posting.post(self.orders, asker, transfers, entry_id, self.clock.now_ns() // 1000)

    async def differences(self) -> list[Break]:
        found = Audit(self.clock.now_ns() // 1000)
        async with driver(self.orders.reads) as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            async with connection.cursor("open_orders") as cursor:
                await cursor.execute(OPEN.encode(), ([*FINAL],))
                while page := await cursor.fetchmany(PAGE):
                    for row in page:
                        found.open(rows.order_of(row))
            await _audit_traded(connection, found)
            strays = [rows.execution_of(row) for row in await _all(connection, STRAYS)]
            found.strays(strays, dict(await _all(connection, SUSPENSE)))
            accounts = map(rows.account_of, await _all(connection, ALL_ACCOUNTS))
            positions = await _all(connection, ALL_POSITIONS)
            sums = await _all(connection, LEDGER_SUMS)
        return found.found(
            {account.id: account for account in accounts},
            {(number, symbol): Balance(*balance) for number, symbol, *balance in positions},
            {(number, asset, book): amount for number, asset, book, amount in sums},
        )


async def _audit_traded(connection: AsyncConnection[Any], found: Audit) -> None:
    async with connection.cursor("traded_orders") as cursor:
        await cursor.execute(TRADED.encode())
        while page := await cursor.fetchmany(PAGE):
            orders = [(rows.order_of(row[3:]), Booked(*row[:3])) for row in page]
            executions: defaultdict[str, list[Execution]] = defaultdict(list)
            for row in await _all(connection, EXECUTIONS, ([order.id for order, _ in orders],)):
                executed = rows.execution_of(row)
                executions[executed.key.order_id].append(executed)
            for order, booked in orders:
                found.traded(order, executions[order.id], booked)


async def _all(connection: AsyncConnection[Any], statement: str, values: Sequence[object] = ()) -> list[Any]:
    cursor = await connection.execute(statement.encode(), values)
    return await cursor.fetchall()
