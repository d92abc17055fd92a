"""The list of differences, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.db import driver
from infra.principal import Principal
from order_service.domain.breaks import Break, State
from order_service.store import rows
from order_service.store import statements_pg as sql
from order_service.store.orders_pg import PgOrders, known_ids, note_breaks

PAGE = f"""SELECT {sql.BREAK_COLUMNS} FROM breaks WHERE (%(state)s::text IS NULL OR state = %(state)s)
 AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid) ORDER BY id LIMIT %(limit)s"""
MARK = """UPDATE breaks SET state = %(state)s, note = %(note)s,
 closed_by = CASE %(state)s::text WHEN 'open' THEN NULL ELSE %(by)s::text END,
 closed_at = CASE %(state)s::text WHEN 'open' THEN NULL ELSE now() END
 WHERE id = %(id)s::uuid RETURNING 1"""
AGES = f"SELECT state, count(*), min({sql.US.format('first_seen')}) FROM breaks GROUP BY state"


@dataclass(frozen=True, slots=True)
class PgBreaks:
    orders: PgOrders

    async def page(self, state: State | None, after: str | None, limit: int) -> list[Break]:
        found = await self.orders.read(PAGE, {"state": state, "after": after, "limit": limit})
        return [rows.break_of(row) for row in found]

    async def note(self, found: Sequence[Break]) -> None:
        if not found:
            return
        newest = {one.id: one for one in found}
        async with driver(self.orders.writes) as connection:
            await note_breaks(connection, list(newest.values()))
            await connection.commit()

    async def mark(self, asker: Principal, break_id: str, state: State, note: str) -> bool:
        if not known_ids([break_id]):
            return False
        values = {"id": break_id, "state": state, "note": note, "by": asker.subject}
        async with driver(self.orders.writes) as connection:
            cursor = await connection.execute(MARK.encode(), values)
            marked = await cursor.fetchone()
            await connection.commit()
        return marked is not None

    async def ages(self) -> Mapping[State, tuple[int, int]]:
        return {state: (count, oldest_us) for state, count, oldest_us in await self.orders.read(AGES, {})}
