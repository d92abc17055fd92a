"""The life of the relay's replication slot, by ordinary SQL (manual: "Logical Decoding", `pg_replication_slots`).

A slot remembers how far its reader is and keeps the log from there on; only one connection may read it, which makes it
the relay's lease as well. What was committed before the slot existed is not in its stream: those rows are read from the
table once, by `missed`, and only then does the checkpoint say that the stream alone is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Literal

import structlog
from psycopg import AsyncConnection, errors

from infra.clock import wait
from infra.db import Checkpoints
from infra.telemetry import SLOT_REPAIRS
from outbox_relay.decoder import COLUMNS, record_of_text
from outbox_relay.marks import LONGEST_TRANSACTION_MS, Mark, mark_of, moment_of, nanoseconds
from outbox_relay.relay import Entry

log = structlog.get_logger(__name__)

SLOT_POLL_S = 0.25
PAGE_ROWS = 500

State = Literal["missing", "free", "busy", "lost"]
# `created_at` is when the row's transaction began. All pages are read from one snapshot: from a later one, a row could
# come whose predecessor committed behind the page before.
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
MISSED = f"""
    SELECT created_at, {", ".join(COLUMNS)} FROM outbox
    WHERE created_at >= %s - interval '1 ms' * {LONGEST_TRANSACTION_MS}
    ORDER BY seq
"""
# The bus may be slow: the snapshot must live as long as it takes.
PATIENT = """
    SELECT set_config(name, '0', false) FROM pg_settings
    WHERE name IN ('transaction_timeout', 'idle_in_transaction_session_timeout')
"""


class Slot:
    """One slot of the database that `control`, in autocommit, is connected to. The checkpoint has the slot's name."""

    def __init__(self, control: AsyncConnection[Any], name: str, publication: str, checkpoints: Checkpoints) -> None:
        self.name = name
        self.publication = publication
        self._control = control
        self._checkpoints = checkpoints
        # When `missed` has given its last page: what was committed before this was among its rows.
        self.seen_ns = 0

    async def free(self, stop: asyncio.Event) -> bool:
        """True once the slot is there and nobody reads it; False when `stop` came first."""
        while not stop.is_set():
            match await self._state():
                case "free":
                    return True
                case "missing":
                    await self._create()
                    continue
                case "lost":
                    log.error("slot_lost", slot=self.name)
                    await self._drop()
                    continue
            await wait(stop, SLOT_POLL_S)
        return False

    async def mark(self) -> Mark:
        return mark_of(await self._checkpoints.read(self.name))

    async def write(self, mark: Mark) -> None:
        await self._checkpoints.write(self.name, mark.text())

    async def held_bytes(self) -> int:
        """Log that the server keeps for the slot."""
        held = "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)"
        query = f"SELECT {held} FROM pg_replication_slots WHERE slot_name = %s"
        row = await (await self._control.execute(query, (self.name,))).fetchone()
        return int(row[0] or 0) if row else 0

    async def missed(self, since_ns: int) -> AsyncGenerator[list[Entry], None]:
        """Pages of the rows that transactions committed at or after `since_ns` may have written, in their order. What
        commits from now on is in the stream."""
        await self._control.execute(PATIENT)
        await self._control.execute(SNAPSHOT)
        ((now,),) = await (await self._control.execute("SELECT now()")).fetchall()
        async with self._control.cursor("missed") as cursor:
            await cursor.execute(MISSED, (moment_of(since_ns),))
            while rows := await cursor.fetchmany(PAGE_ROWS):
                yield [Entry(record_of_text(*map(str, row[1:])), None, nanoseconds(row[0])) for row in rows]
        await self._control.execute("COMMIT")
        self.seen_ns = nanoseconds(now)

    async def _state(self) -> State:
        cursor = await self._control.execute(
            "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = %s", (self.name,)
        )
        row = await cursor.fetchone()
        if row is None:
            return "missing"
        if row[1] == "lost":
            return "lost"
        return "busy" if row[0] else "free"

    async def _create(self) -> None:
        # A slot that is older than the publication can never be read: decoding looks at the catalog of that time.
        known = await self._control.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", (self.publication,))
        if await known.fetchone() is None:
            raise errors.OperationalError(f"publication {self.publication} does not exist: is the database migrated?")
        mark = await self.mark()
        await self.write(Mark(True, mark.since_ns))
        log.info("slot_creating", slot=self.name)
        if mark.since_ns:
            SLOT_REPAIRS.inc()
        try:
            # Waits for the end of every transaction that is open now.
            await self._control.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self.name,))
        except errors.DuplicateObject:
            log.info("slot_created_by_another", slot=self.name)

    async def _drop(self) -> None:
        try:
            await self._control.execute("SELECT pg_drop_replication_slot(%s)", (self.name,))
        except (errors.UndefinedObject, errors.ObjectInUse) as error:
            log.info("slot_not_dropped", slot=self.name, error=str(error))
