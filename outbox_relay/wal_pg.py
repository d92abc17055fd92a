"""The outbox read from PostgreSQL's write-ahead log, as a logical replication client (default source).

psycopg has no replication API, but libpq's few functions for the copy stream are enough: after START_REPLICATION the
connection carries frames in both directions (manual, "Streaming Replication Protocol"). Nothing is read that was not
asked for, so a slow bus stops the reading; the server is answered all the same, by a task of its own, and keeps us.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import structlog
from psycopg import AsyncConnection, errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from infra.clock import Clock, wait
from infra.db import Checkpoints
from infra.outbox import PUBLICATION, SLOT, OutboxRow
from infra.telemetry import SLOT_LAG_BYTES
from outbox_relay import pgoutput
from outbox_relay.pgoutput import Begin, Commit, Ignored, Insert, Keepalive, ProtocolError, Relation
from outbox_relay.relay import Entry, Source
from outbox_relay.slot_pg import COLUMNS, SLOT_POLL_S, Mark, Slot, nanoseconds

log = structlog.get_logger(__name__)

TABLE = "outbox"
APPLICATION = "outbox_relay"
ENTRIES_MAX = 500
CONNECT_TIMEOUT_S = 5
# The server drops a reader that is silent for `wal_sender_timeout` (60 s by default).
STATUS_S = 0.5
# Not more often than this, whatever is confirmed or asked.
STATUS_S_MIN = 0.05
MARK_S = 5.0
FAREWELL_S = 0.5
# All rows that were missed are published; a place before every real position in the log.
CAUGHT_UP = 1


class WalReader:
    """How to open the stream of one slot; `Relay` opens it again whenever it was lost."""

    def __init__(
        self, dsn: str, checkpoints: Checkpoints, clock: Clock, slot: str = SLOT, publication: str = PUBLICATION
    ) -> None:
        self._dsn = dsn
        self._checkpoints = checkpoints
        self._clock = clock
        self._slot = slot
        self._publication = publication

    @contextlib.asynccontextmanager
    async def open(self, stop: asyncio.Event) -> AsyncIterator[Source | None]:
        """The slot's stream, once the slot is free. Whoever held it before has lost it by then."""
        async with _connected(self._dsn) as control:
            slot = Slot(control, self._slot, self._publication, self._checkpoints)
            while await slot.free(stop):
                async with _connected(self._dsn, replication="database") as stream:
                    try:
                        await _start(stream.pgconn, slot)
                    except errors.ObjectInUse:
                        await wait(stop, SLOT_POLL_S)
                        continue
                    source = WalSource(stream.pgconn, slot, await slot.mark(), self._clock)
                    try:
                        yield source
                    finally:
                        await source.close()
                return
            yield None


class WalSource:
    """A slot's stream from where it was confirmed, preceded by the rows that are older than the slot."""

    def __init__(self, pgconn: PGconn, slot: Slot, mark: Mark, clock: Clock) -> None:
        self._pgconn = pgconn
        self._slot = slot
        self._clock = clock
        self._mark = mark
        self._missed = slot.missed(mark.since_ns) if mark.catching_up else None
        self._decoder = Decoder()
        self._confirmed = 0
        self._commits: deque[tuple[int, int]] = deque()
        self._reported_s = 0.0
        self._serving = asyncio.ensure_future(self._serve())

    async def entries(self, wait_s: float) -> list[Entry]:
        if self._serving.done():
            self._serving.result()
        if self._missed is not None:
            async for page in self._missed:
                return page
            self._missed = None
            return [Entry(None, CAUGHT_UP)]
        if found := self._drain():
            return found
        if not await _readable(self._pgconn.socket, wait_s):
            return []
        self._pgconn.consume_input()
        return self._drain()

    async def confirm(self, position: int) -> None:
        self._confirmed = max(self._confirmed, position)
        since_ns = self._mark.since_ns
        while self._commits and self._commits[0][0] <= position:
            since_ns = self._commits.popleft()[1]
        caught_up = self._mark.catching_up and self._missed is None
        self._mark = Mark(self._mark.catching_up and not caught_up, since_ns)
        if caught_up:
            await self._slot.write(self._mark)
            log.info("outbox_caught_up")
        self._report_soon()

    async def close(self) -> None:
        """Tell the server how far we are, and wait until it has heard it. A lost connection has nothing to tell."""
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        with contextlib.suppress(errors.OperationalError, TimeoutError):
            self._report()
            self._pgconn.put_copy_end()
            self._pgconn.flush()
            async with asyncio.timeout(FAREWELL_S):
                await self._end_of_stream()

    def _drain(self) -> list[Entry]:
        """What the connection has received, up to a batch; the rest waits for the next call."""
        found: list[Entry] = []
        while len(found) < ENTRIES_MAX:
            size, data = self._pgconn.get_copy_data(1)
            if size < 0:
                raise errors.OperationalError("the server ended the replication stream")
            if size == 0:
                break
            received = pgoutput.frame(bytes(data))
            if isinstance(received, Keepalive):
                found += self._decoder.keepalive(received)
                if received.reply:
                    self._report_soon()
                continue
            message = pgoutput.message(received.payload)
            if isinstance(message, Commit):
                self._commits.append((message.end_lsn, message.commit_ns))
            found += self._decoder.message(message)
        return found

    async def _serve(self) -> None:
        """Keep the server and the checkpoint informed, whatever the bus does."""
        written, written_s = self._mark, self._clock.monotonic_s()
        while True:
            await asyncio.sleep(STATUS_S)
            self._report()
            if self._clock.monotonic_s() - written_s >= MARK_S:
                SLOT_LAG_BYTES.set(await self._slot.held_bytes())
                if not self._mark.catching_up and self._mark != written:
                    written = self._mark
                    await self._slot.write(written)
                written_s = self._clock.monotonic_s()

    def _report_soon(self) -> None:
        if self._clock.monotonic_s() - self._reported_s >= STATUS_S_MIN:
            self._report()

    def _report(self) -> None:
        self._reported_s = self._clock.monotonic_s()
        confirmed = self._confirmed if self._confirmed > CAUGHT_UP else 0
        self._pgconn.put_copy_data(pgoutput.standby_status(confirmed, self._clock.now_ns()))
        self._pgconn.flush()

    async def _end_of_stream(self) -> None:
        while True:
            size, _ = self._pgconn.get_copy_data(1)
            if size < 0:
                return
            if size == 0:
                await _readable(self._pgconn.socket, FAREWELL_S)
                self._pgconn.consume_input()


class Decoder:
    """Messages of one stream to entries. Remembers the relations and how far it was, nothing else."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._position = CAUGHT_UP

    def keepalive(self, received: Keepalive) -> list[Entry]:
        """All that was committed before its end has been sent: with nothing outstanding it can be confirmed. The log is
        shared, so without this a busy neighbour database would fill the disk on behalf of a quiet outbox."""
        return self._passed(received.end)

    def message(self, message: pgoutput.Message) -> list[Entry]:
        match message:
            case Insert():
                return self._row(message)
            case Commit():
                return self._passed(message.end_lsn)
            case Relation():
                self._relations[message.id] = message
            case Ignored():
                log.warning("replication_message_ignored", kind=message.kind)
            case Begin():
                pass
        return []

    def _passed(self, position: int) -> list[Entry]:
        # A keepalive may be older than the commit before it; confirming must not go back.
        if position <= self._position:
            return []
        self._position = position
        return [Entry(None, position)]

    def _row(self, insert: Insert) -> list[Entry]:
        relation = self._relations.get(insert.relation_id)
        if relation is None:
            raise ProtocolError(f"a row of the unknown relation {insert.relation_id}")
        if relation.name != TABLE:
            raise ProtocolError(
                f"the publication brings rows of {relation.schema}.{relation.name}, not of {TABLE} alone"
            )
        values = pgoutput.row(relation, insert)
        written_at = _required(values, "created_at")
        row = OutboxRow(*(_required(values, column) for column in COLUMNS))
        return [Entry(row, None, nanoseconds(datetime.fromisoformat(written_at)))]


def _required(values: dict[str, pgoutput.Value], column: str) -> str:
    value = values.get(column)
    if not isinstance(value, str):
        raise ProtocolError(f"the outbox row has no {column}: {value!r}")
    return value


@contextlib.asynccontextmanager
async def _connected(dsn: str, **options: Any) -> AsyncIterator[AsyncConnection[Any]]:
    connection = await AsyncConnection.connect(
        dsn,
        autocommit=True,
        application_name=APPLICATION,
        client_encoding="UTF8",
        connect_timeout=CONNECT_TIMEOUT_S,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        options="-c DateStyle=ISO -c TimeZone=UTC",
        **options,
    )
    try:
        yield connection
    finally:
        await connection.close()  # the connection's own `with` would say COMMIT first, even in the middle of a stream


async def _start(pgconn: PGconn, slot: Slot) -> None:
    """Enter copy mode from the slot's confirmed position (0/0 asks for that)."""
    pgconn.nonblocking = 1
    options = f"(proto_version '1', publication_names '{slot.publication}')"
    pgconn.send_query(f'START_REPLICATION SLOT "{slot.name}" LOGICAL 0/0 {options}'.encode())
    pgconn.flush()
    while pgconn.is_busy():
        await _readable(pgconn.socket, CONNECT_TIMEOUT_S)
        pgconn.consume_input()
    result = pgconn.get_result()
    if result is None or result.status != ExecStatus.COPY_BOTH:
        raise errors.error_from_result(result) if result else errors.OperationalError("no answer to START_REPLICATION")


async def _readable(socket: int, wait_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(socket, _settle, ready)
    try:
        # Not wait_for: before Python 3.12 it can lose a cancellation that meets the data.
        async with asyncio.timeout(wait_s):
            await ready
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(socket)
    return True


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
