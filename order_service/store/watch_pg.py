"""What timers and reconciliation look for, on PostgreSQL. None of it is done for a client, so who asks does not matter.

No index follows an order's status, because every report changes that; the open orders are found along the ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from order_service.domain.executions import ExecKey, Execution
from order_service.domain.lifecycle import FINAL
from order_service.domain.order import Order
from order_service.store import rows
from order_service.store import statements_pg as sql
from order_service.store.orders_pg import PgOrders, known_ids
from order_service.store.unit import EventRow

FIRST = "00000000-0000-0000-0000-000000000000"
DUE = f"""SELECT id::text FROM orders WHERE next_attempt_at <= {sql.EPOCH.format("%(now)s::bigint")}
 ORDER BY next_attempt_at, id LIMIT %(limit)s"""
OPEN = f"""SELECT {sql.ORDER_COLUMNS} FROM orders WHERE orders.id > %(after)s::uuid AND status <> ALL(%(final)s)
 ORDER BY orders.id LIMIT %(limit)s"""
ORDERS = f"SELECT {sql.ORDER_COLUMNS} FROM orders WHERE orders.id = ANY(%(ids)s::uuid[])"
EXECUTIONS = f"SELECT {sql.EXECUTION_COLUMNS} FROM executions WHERE executions.order_id = ANY(%(ids)s::uuid[])"
IDS = """SELECT id::text FROM (
 (SELECT id FROM orders WHERE id > %(after)s::uuid ORDER BY id LIMIT %(limit)s) UNION
 (SELECT DISTINCT order_id FROM order_events WHERE order_id > %(after)s::uuid ORDER BY order_id LIMIT %(limit)s)
 ) AS found ORDER BY found.id LIMIT %(limit)s"""
EVENTS = f"""SELECT {sql.EVENT_COLUMNS} FROM order_events WHERE order_events.order_id = ANY(%(ids)s::uuid[])
 ORDER BY order_events.order_id, version"""


@dataclass(frozen=True, slots=True)
class PgWatch:
    orders: PgOrders

    async def due(self, now_us: int, limit: int) -> list[str]:
        return [row[0] for row in await self.orders.read(DUE, {"now": now_us, "limit": limit})]

    async def open_after(self, order_id: str | None, limit: int) -> list[Order]:
        values = {"after": order_id or FIRST, "final": [*FINAL], "limit": limit}
        return [rows.order_of(row) for row in await self.orders.read(OPEN, values)]

    async def orders_of(self, ids: Sequence[str]) -> dict[str, Order]:
        found = map(rows.order_of, await self.orders.read(ORDERS, {"ids": known_ids(ids)}))
        return {order.id: order for order in found}

    async def executions_of(self, order_ids: Sequence[str]) -> dict[ExecKey, Execution]:
        found = map(rows.execution_of, await self.orders.read(EXECUTIONS, {"ids": known_ids(order_ids)}))
        return {one.key: one for one in found}

    async def histories_after(self, order_id: str | None, limit: int) -> list[tuple[Order | None, list[EventRow]]]:
        found = await self.orders.read(IDS, {"after": order_id or FIRST, "limit": limit})
        ids = [row[0] for row in found]
        orders = await self.orders_of(ids)
        events: defaultdict[str, list[EventRow]] = defaultdict(list)
        for row in await self.orders.read(EVENTS, {"ids": ids}):
            event = rows.event_of(row)
            events[event.order_id].append(event)
        return [(orders.get(id_), events[id_]) for id_ in ids]
