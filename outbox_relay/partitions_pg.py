"""Keeps the outbox's partitions: makes them ahead, drops what is published and old. Runs once per database (a lease).

A row whose time has no partition is in the default one, where it is as safe, published as well and removed after the
same rule; only it costs a DELETE. So a relay that was away for days leaves nothing to repair.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from psycopg import AsyncConnection, sql

from infra.clock import wait
from infra.db import TRANSIENT, Checkpoints
from infra.outbox import SLOT
from infra.telemetry import OUTBOX_PARTITIONS, OUTBOX_STRAY_ROWS
from outbox_relay.marks import LONGEST_TRANSACTION_MS, mark_of, moment_of, nanoseconds, polled
from outbox_relay.partitions import Partition, partition_of, to_drop, to_make

log = structlog.get_logger(__name__)

LEASE = "outbox_partitions"
APPLICATION = "outbox_partitions"
CONNECT_TIMEOUT_S = 5
EVERY_S = 30.0
RETRY_S = 5.0
STRAYS_MAX = 10_000
# Whoever waits for a table lock stops all writers behind it: give up soon and try again.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '250ms'"

EXISTING = """
    SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class
    WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox'::regclass)
"""
MOMENTS = f"SELECT now(), interval '1 ms' * {LONGEST_TRANSACTION_MS}"
# Rows of the future are there when the server's clock was set back: attaching would fail for ever because of them.
MADE = """
    CREATE TABLE {name} (LIKE outbox INCLUDING ALL EXCLUDING IDENTITY);
    LOCK TABLE outbox_default IN ACCESS EXCLUSIVE MODE;
    WITH strays AS (
        DELETE FROM outbox_default WHERE created_at >= {start} AND created_at < {end} RETURNING *
    ) INSERT INTO {name} SELECT * FROM strays;
    ALTER TABLE outbox ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end});
"""
STRAYS_DELETED = """
    DELETE FROM outbox_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM outbox_default WHERE created_at < %s LIMIT %s))
"""
# All that committed before the oldest unpublished row's transaction began is published.
POLLED = "SELECT coalesce((SELECT min(created_at) FROM outbox WHERE published_at IS NULL), now())"
ABANDONED = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"


@dataclass(frozen=True, slots=True)
class Plan:
    """Length of a partition, how many lie ahead, how long published rows are kept."""

    length: timedelta = timedelta(hours=24)
    ahead: int = 3
    retention: timedelta = timedelta(hours=72)


class Partitions:
    """`checkpoint` names the relay's mark. With `is_polled` nobody else keeps the mark, and the slot of an earlier mode
    is dropped: unread, it would keep the log."""

    def __init__(
        self, dsn: str, checkpoints: Checkpoints, plan: Plan, checkpoint: str = SLOT, is_polled: bool = False
    ) -> None:
        self._dsn = dsn
        self._checkpoints = checkpoints
        self._plan = plan
        self._checkpoint = checkpoint
        self._is_polled = is_polled

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            pause_s = EVERY_S
            try:
                await self.tend()
            except TRANSIENT as error:
                pause_s = RETRY_S
                log.warning("outbox_not_tended", error=str(error))
            await wait(stop, pause_s)

    async def tend(self) -> None:
        """One round. Raises what the driver raises; a round that ended early is harmless."""
        connected = await AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            application_name=APPLICATION,
            connect_timeout=CONNECT_TIMEOUT_S,
            options="-c DateStyle=ISO -c TimeZone=UTC",
        )
        async with connected as connection:
            if self._is_polled:
                await self._keep_mark(connection)
            ((now, longest),) = await _rows(connection, MOMENTS)
            existing = await _existing(connection)
            for partition in to_make(existing, now, self._plan.length, self._plan.ahead):
                await _make(connection, partition)
            published = moment_of(mark_of(await self._checkpoints.read(self._checkpoint)).since_ns)
            before = min(published - longest, now - self._plan.retention)
            for partition in to_drop(existing, before):
                await _drop(connection, partition)
            await _delete_strays(connection, before)
            OUTBOX_PARTITIONS.set(len(await _existing(connection)))
            ((strays,),) = await _rows(connection, "SELECT count(*) FROM outbox_default")
            OUTBOX_STRAY_ROWS.set(strays)

    async def _keep_mark(self, connection: AsyncConnection[Any]) -> None:
        """Never back: rows from before a shard was first polled are published, and are not marked so yet."""
        ((since,),) = await _rows(connection, POLLED)
        known = mark_of(await self._checkpoints.read(self._checkpoint)).since_ns
        await self._checkpoints.write(self._checkpoint, polled(max(known, nanoseconds(since))))
        if await _rows(connection, ABANDONED, self._checkpoint):
            log.warning("abandoned_slot_dropped", slot=self._checkpoint)


async def _existing(connection: AsyncConnection[Any]) -> list[Partition]:
    found = [partition_of(name, bounds) for name, bounds in await _rows(connection, EXISTING)]
    return [partition for partition in found if partition is not None]


async def _make(connection: AsyncConnection[Any], partition: Partition) -> None:
    parts = {
        "name": sql.Identifier(partition.name),
        "start": sql.Literal(partition.start),
        "end": sql.Literal(partition.end),
    }
    async with connection.transaction():
        await connection.execute(LOCK_TIMEOUT)
        await connection.execute(sql.SQL(MADE).format(**parts))
    log.info("outbox_partition_made", partition=partition.name)


async def _drop(connection: AsyncConnection[Any], partition: Partition) -> None:
    async with connection.transaction():
        await connection.execute(LOCK_TIMEOUT)
        await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))
    log.info("outbox_partition_dropped", partition=partition.name)


async def _delete_strays(connection: AsyncConnection[Any], before: datetime) -> None:
    while (await connection.execute(STRAYS_DELETED, (before, STRAYS_MAX))).rowcount == STRAYS_MAX:
        pass


async def _rows(connection: AsyncConnection[Any], query: Any, *arguments: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, arguments)).fetchall()
