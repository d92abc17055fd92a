"""The life of the relay's replication slot, by ordinary SQL (manual: "Logical Decoding", `pg_replication_slots`).

A slot remembers how far its reader is and keeps the log from there on; only one connection may read it, which makes it
the relay's lease as well. What was committed before the slot existed is not in its stream: those rows are read from the
table once, by `missed`, and only then does the checkpoint say that the stream alone is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog
from psycopg import AsyncConnection, errors

from infra.clock import NS_PER_S, wait
from infra.db import Checkpoints
from infra.outbox import OutboxRow
from outbox_relay.relay import Entry

log = structlog.get_logger(__name__)

SLOT_POLL_S = 0.25
PAGE_ROWS = 500
# Where the server does not bound transactions: how long one may take whose row carries the time of its beginning.
TRANSACTION_MS_MAX = 3_600_000

State = Literal["missing", "free", "busy", "lost"]
COLUMNS = ("id", "aggregatetype", "aggregateid", "type", "payload", "idempotency_key", "traceparent")
# `created_at` is when the row's transaction began. All pages are read from one snapshot: from a later one, a row could
# come whose predecessor committed behind the page before.
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
MISSED = f"""
    SELECT seq, created_at, {", ".join(COLUMNS)} FROM outbox
    WHERE seq > %s AND created_at >= to_timestamp(%s) - interval '1 ms' * coalesce(
        (SELECT nullif(reset_val, '0')::bigint FROM pg_settings WHERE name = 'transaction_timeout'),
        {TRANSACTION_MS_MAX}
    )
    ORDER BY seq LIMIT %s
"""
# The bus may be slow: the snapshot must live as long as it takes.
PATIENT = """
    SELECT set_config(name, '0', false) FROM pg_settings
    WHERE name IN ('transaction_timeout', 'idle_in_transaction_session_timeout')
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far all is known to be published: every transaction committed before `since_ns` (Unix nanoseconds; 0: none).

    While `catching_up`, the slot's stream alone is not enough: rows written since then must be read from the table.
    """

    catching_up: bool
    since_ns: int

    def text(self) -> str:
        return f"{'catching_up' if self.catching_up else 'streaming'} {self.since_ns}"


def mark_of(text: str | None) -> Mark:
    """A checkpoint that is not there yet: nothing is known to be published."""
    if text is None:
        return Mark(True, 0)
    state, _, since_ns = text.partition(" ")
    return Mark(state != "streaming", int(since_ns))


class Slot:
    """One slot of the database that `control`, in autocommit, is connected to. The checkpoint has the slot's name."""

    def __init__(self, control: AsyncConnection[Any], name: str, publication: str, checkpoints: Checkpoints) -> None:
        self.name = name
        self.publication = publication
        self._control = control
        self._checkpoints = checkpoints

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

    async def missed(self, since_ns: int) -> AsyncIterator[list[Entry]]:
        """Pages of the rows that transactions committed at or after `since_ns` may have written, in their order. What
        commits from now on is in the stream."""
        await self._control.execute(PATIENT)
        await self._control.execute(SNAPSHOT)
        after_seq = 0
        while True:
            cursor = await self._control.execute(MISSED, (after_seq, since_ns // NS_PER_S, PAGE_ROWS))
            if not (rows := await cursor.fetchall()):
                break
            yield [Entry(OutboxRow(*map(str, row[2:])), None, nanoseconds(row[1])) for row in rows]
            after_seq = rows[-1][0]
        await self._control.execute("COMMIT")

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
        await self.write(Mark(True, (await self.mark()).since_ns))
        log.info("slot_creating", slot=self.name)
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


def nanoseconds(moment: datetime) -> int:
    """Unix nanoseconds of an aware time, exact to its microsecond."""
    return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1_000
