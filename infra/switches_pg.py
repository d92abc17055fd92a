"""Kill switches on PostgreSQL: the table `switches` and the outbox of the database `orders`."""

from __future__ import annotations

from dataclasses import astuple
from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import Clock, Ids
from infra.contracts import Switch, SwitchMode
from infra.db import driver
from infra.principal import Principal
from infra.switches import outbox_row

# The row lock that the first statement takes orders the outbox rows of a scope.
_SET = """INSERT INTO switches (scope, mode, reason, by, at_ns) VALUES (%s, %s, %s, %s, %s)
 ON CONFLICT (scope) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, by = excluded.by,
 at_ns = excluded.at_ns"""
_TELL = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent)
 VALUES (%s, %s, %s, %s, %s, %s, %s)"""
_ALL = 'SELECT scope, mode, reason, by, at_ns FROM switches ORDER BY scope COLLATE "C"'


class PgSwitches:
    """Satisfies `switches.SwitchStore`."""

    def __init__(self, source: AsyncEngine, clock: Clock, ids: Ids) -> None:
        self._engine = source
        self._clock = clock
        self._ids = ids

    async def set(self, asker: Principal, scope: str, mode: SwitchMode, reason: str) -> Switch:
        switch = Switch(scope=scope, mode=mode, reason=reason, by=asker.subject, at_ns=self._clock.now_ns())
        row = outbox_row(switch, self._ids)
        async with driver(self._engine) as connection:
            await connection.execute(_SET, (switch.scope, switch.mode, switch.reason, switch.by, switch.at_ns))
            await connection.execute(_TELL, astuple(row))
            await connection.commit()
        return switch

    async def all(self) -> list[Switch]:
        async with driver(self._engine) as connection:
            cursor = await connection.execute(_ALL)
            rows = cast("list[tuple[str, SwitchMode, str, str, int]]", await cursor.fetchall())
        return [
            Switch(scope=scope, mode=mode, reason=reason, by=by, at_ns=at_ns) for scope, mode, reason, by, at_ns in rows
        ]
