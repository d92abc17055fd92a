"""The outbox read by asking for unpublished rows: for servers where logical replication cannot be had.

"Greater than the last id" loses rows, because ids are given before the commit and commits come in any order; so a row
is looked for by what it is, unpublished, and marked once the bus has it. One poller at a time (a lease), because two
would publish the rows of one key in two orders.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from infra.clock import wait
from infra.outbox import OutboxRow
from outbox_relay.relay import Entry, Source
from outbox_relay.slot_pg import COLUMNS, nanoseconds

LEASE = "outbox_poller"
ROWS_MAX = 500
CONNECT_TIMEOUT_S = 5
APPLICATION = "outbox_relay"

# The writer of two rows with one key holds a lock between them, so `seq` orders the rows of a key.
UNPUBLISHED = f"""
    SELECT seq, created_at, {", ".join(COLUMNS)} FROM outbox WHERE published_at IS NULL ORDER BY seq LIMIT {ROWS_MAX}
"""
PUBLISHED = "UPDATE outbox SET published_at = now() WHERE published_at IS NULL AND seq = ANY(%s)"


class Poller:
    """How to open the table; to be run under the lease only."""

    def __init__(self, dsn: str, poll_s: float) -> None:
        self._dsn = dsn
        self._poll_s = poll_s

    @contextlib.asynccontextmanager
    async def open(self, stop: asyncio.Event) -> AsyncIterator[Source | None]:
        connected = await AsyncConnection.connect(
            self._dsn, autocommit=True, application_name=APPLICATION, connect_timeout=CONNECT_TIMEOUT_S
        )
        async with connected as connection:
            yield PollingSource(connection, self._poll_s)


class PollingSource:
    """Batch by batch: the next one is read only when all of the last one is marked. A position is a row's `seq`, whose
    order within a batch is the order in which the batch is given."""

    def __init__(self, connection: AsyncConnection[Any], poll_s: float) -> None:
        self._connection = connection
        self._poll_s = poll_s
        self._given: list[int] = []
        self._marked = asyncio.Event()

    async def entries(self, wait_s: float) -> list[Entry]:
        if self._given:
            self._marked.clear()
            await wait(self._marked, wait_s)
            if self._given:
                return []
        cursor = await self._connection.execute(UNPUBLISHED)
        rows = await cursor.fetchall()
        if not rows:
            await asyncio.sleep(self._poll_s)
        self._given = [row[0] for row in rows]
        return [Entry(OutboxRow(*map(str, row[2:])), row[0], nanoseconds(row[1])) for row in rows]

    async def confirm(self, position: int) -> None:
        done = [seq for seq in self._given if seq <= position]
        await self._connection.execute(PUBLISHED, (done,))
        self._given = self._given[len(done) :]
        self._marked.set()
