"""The outbox read by asking for unpublished rows: for servers where logical replication cannot be had.

"Greater than the last id" loses rows, because ids are given before the commit and commits come in any order; so a row
is looked for by what it is, unpublished, and marked once the bus has it. The rows are shared out by their keys into
shards, each with one poller at a time (a lease), because two would publish the rows of one key in two orders.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import structlog
from psycopg import AsyncConnection

from infra.clock import wait
from infra.db import Checkpoints
from infra.outbox import SLOT
from outbox_relay.decoder import COLUMNS, record_of_text
from outbox_relay.marks import LONGEST_TRANSACTION_MS, mark_of, moment_of, nanoseconds
from outbox_relay.relay import Entry, Source

log = structlog.get_logger(__name__)

LEASE = "outbox_poller"
ROWS_MAX = 500
CONNECT_TIMEOUT_S = 5
APPLICATION = "outbox_relay"

OF_SHARD = "mod(hashtext(aggregateid)::bigint + 2147483648, %(shards)s) = %(shard)s"
# The writer of two rows with one key holds a lock between them, so `seq` orders the rows of a key.
UNPUBLISHED = f"""
    SELECT seq, created_at, {", ".join(COLUMNS)} FROM outbox
    WHERE published_at IS NULL AND {OF_SHARD} ORDER BY seq LIMIT {ROWS_MAX}
"""
# The earliest row bounds the partitions to look into.
PUBLISHED = "UPDATE outbox SET published_at = now() WHERE published_at IS NULL AND created_at >= %s AND seq = ANY(%s)"
# What the write-ahead log's relay has published carries no mark of it; its checkpoint says how far it was. A row that
# is younger than that by less than the longest transaction is published once more, and its consumers know it.
PUBLISHED_BEFORE = f"""
    UPDATE outbox SET published_at = now() WHERE published_at IS NULL AND {OF_SHARD}
    AND created_at < %(since)s - interval '1 ms' * {LONGEST_TRANSACTION_MS}
"""
# Writers wait while it is built. Pollers that begin together take turns: the statement is no protection by itself.
INDEXED = (
    "SELECT pg_advisory_lock(hashtextextended('outbox_unpublished', 0))",
    "CREATE INDEX IF NOT EXISTS outbox_unpublished ON outbox (seq) WHERE published_at IS NULL",
    "SELECT pg_advisory_unlock(hashtextextended('outbox_unpublished', 0))",
)
UNHURRIED = "SELECT set_config('transaction_timeout', '0', false)"


def lease_of(shard: int) -> str:
    return f"{LEASE}-{shard}"


class Poller:
    """How to open one shard of the table; to be run under the shard's lease only."""

    def __init__(
        self,
        dsn: str,
        checkpoints: Checkpoints,
        poll_s: float,
        shard: int = 0,
        shards: int = 1,
        checkpoint: str = SLOT,
    ) -> None:
        self._dsn = dsn
        self._checkpoints = checkpoints
        self._poll_s = poll_s
        self._shard = {"shard": shard, "shards": shards}
        self._checkpoint = checkpoint

    @contextlib.asynccontextmanager
    async def open(self, stop: asyncio.Event) -> AsyncIterator[Source | None]:
        connected = await AsyncConnection.connect(
            self._dsn, autocommit=True, application_name=APPLICATION, connect_timeout=CONNECT_TIMEOUT_S
        )
        async with connected as connection:
            await self._skip_published(connection)
            for statement in INDEXED:
                await connection.execute(statement.encode())
            yield PollingSource(connection, self._poll_s, self._shard)

    async def _skip_published(self, connection: AsyncConnection[Any]) -> None:
        mark = mark_of(await self._checkpoints.read(self._checkpoint))
        if not mark.since_ns:
            return
        await connection.execute(UNHURRIED)
        done = await connection.execute(PUBLISHED_BEFORE, self._shard | {"since": moment_of(mark.since_ns)})
        if done.rowcount:
            log.info("rows_published_before", rows=done.rowcount, **self._shard)


class PollingSource:
    """Batch by batch: the next one is read only when all of the last one is marked. A position is a row's `seq`, whose
    order within a batch is the order in which the batch is given."""

    def __init__(self, connection: AsyncConnection[Any], poll_s: float, shard: dict[str, int]) -> None:
        self._connection = connection
        self._poll_s = poll_s
        self._shard = shard
        self._given: list[tuple[int, datetime]] = []
        self._marked = asyncio.Event()

    async def entries(self, wait_s: float) -> list[Entry]:
        if self._given:
            self._marked.clear()
            await wait(self._marked, wait_s)
            if self._given:
                return []
        cursor = await self._connection.execute(UNPUBLISHED, self._shard)
        rows = await cursor.fetchall()
        if not rows:
            await asyncio.sleep(self._poll_s)
        self._given = [(row[0], row[1]) for row in rows]
        return [Entry(record_of_text(*map(str, row[2:])), row[0], nanoseconds(row[1])) for row in rows]

    async def confirm(self, position: int) -> None:
        done = [given for given in self._given if given[0] <= position]
        if done:
            earliest = min(created_at for _, created_at in done)
            await self._connection.execute(PUBLISHED, (earliest, [seq for seq, _ in done]))
        self._given = self._given[len(done) :]
        self._marked.set()
