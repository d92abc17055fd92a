"""The outbox read from PostgreSQL's write-ahead log, as a logical replication client (default source).

psycopg has no replication API, but libpq's few functions for the copy stream are enough: after START_REPLICATION the
connection carries frames in both directions (manual, "Streaming Replication Protocol"). Nothing is read that was not
asked for, so a slow bus stops the reading; the server is answered all the same, by a task of its own, and keeps us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import structlog
from psycopg import AsyncConnection, errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from infra.clock import Clock, wait
from infra.db import TRANSIENT, Checkpoints
from infra.outbox import PUBLICATION, SLOT
from infra.telemetry import SLOT_LAG_BYTES
from outbox_relay import pgoutput
from outbox_relay.decoder import CAUGHT_UP, Decoder
from outbox_relay.marks import Mark
from outbox_relay.pgoutput import Commit, Keepalive
from outbox_relay.relay import Entry, Source
from outbox_relay.slot_pg import SLOT_POLL_S, Slot

log = structlog.get_logger(__name__)

APPLICATION = "outbox_relay"
ENTRIES_MAX = 500
CONNECT_TIMEOUT_S = 5
# The server drops a reader that is silent for `wal_sender_timeout` (60 s by default).
STATUS_S = 0.5
# Not more often than this, whatever is confirmed or asked.
STATUS_S_MIN = 0.05
MARK_S = 5.0
FAREWELL_S = 0.5
# The server sends each message of a transaction by itself: its begin (51 bytes with its frame), the rows (more than
# 200), the commit (56), often a keepalive (23). Only a row is urgent, so fewer bytes than this wake nobody: the rest is
# read with the next row, or soon after.
URGENT_BYTES = 150
REST_S = 0.01


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
                    _wake_for(URGENT_BYTES, stream.pgconn.socket)
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
        self._socket = _Socket(pgconn.socket)
        self._slot = slot
        self._clock = clock
        self._mark = self._written = mark
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
        await self._socket.readable(min(wait_s, REST_S) if self._decoder.in_transaction else wait_s)
        self._pgconn.consume_input()
        return self._drain()

    async def confirm(self, position: int) -> None:
        self._confirmed = max(self._confirmed, position)
        caught_up = self._mark.catching_up and self._missed is None
        since_ns = max(self._mark.since_ns, self._slot.seen_ns) if caught_up else self._mark.since_ns
        while self._commits and self._commits[0][0] <= position:
            since_ns = self._commits.popleft()[1]
        self._mark = Mark(self._mark.catching_up and not caught_up, since_ns)
        if caught_up:
            await self._slot.write(self._mark)
            log.info("outbox_caught_up")
        if self._clock.monotonic_s() - self._reported_s >= STATUS_S_MIN:
            self._report()

    async def close(self) -> None:
        """Tell the server how far we are, and wait until it has heard it. A lost connection has nothing to tell."""
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        if self._missed is not None:
            with contextlib.suppress(*TRANSIENT):
                await self._missed.aclose()
        try:
            with contextlib.suppress(errors.OperationalError, TimeoutError):
                _wake_for(1, self._pgconn.socket)
                self._report()
                self._pgconn.put_copy_end()
                self._pgconn.flush()
                async with asyncio.timeout(FAREWELL_S):
                    await self._end_of_stream()
            with contextlib.suppress(*TRANSIENT):
                await self._keep_mark()
        finally:
            self._socket.close()

    def _drain(self) -> list[Entry]:
        """What the connection has received, up to a batch; the rest waits for the next call."""
        found: list[Entry] = []
        asked = False
        while len(found) < ENTRIES_MAX:
            size, data = self._pgconn.get_copy_data(1)
            if size < 0:
                raise errors.OperationalError("the server ended the replication stream")
            if size == 0:
                break
            received = pgoutput.frame(bytes(data))
            if isinstance(received, Keepalive):
                found += self._decoder.keepalive(received)
                asked = asked or received.reply
                continue
            message = pgoutput.message(received.payload)
            if isinstance(message, Commit):
                self._commits.append((message.end_lsn, message.commit_ns))
            found += self._decoder.message(message)
        if asked:
            self._report()
        return found

    async def _serve(self) -> None:
        """Keep the server and the checkpoint informed, whatever the bus does."""
        written_s = self._clock.monotonic_s()
        while True:
            await asyncio.sleep(STATUS_S)
            self._report()
            if self._clock.monotonic_s() - written_s >= MARK_S:
                SLOT_LAG_BYTES.set(await self._slot.held_bytes())
                await self._keep_mark()
                written_s = self._clock.monotonic_s()

    async def _keep_mark(self) -> None:
        if not self._mark.catching_up and self._mark != self._written:
            self._written = self._mark
            await self._slot.write(self._mark)

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
                await self._socket.readable(FAREWELL_S)
                self._pgconn.consume_input()


class _Socket:
    """Says when there is something to read. Stays registered between waits, which come once per row; a wake-up that
    nobody waited for ends it until the next wait, so that what is not wanted stays with the server."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._watched = False
        self._waiting: asyncio.Future[bool] | None = None

    async def readable(self, wait_s: float) -> bool:
        waiting: asyncio.Future[bool] = self._loop.create_future()
        self._waiting = waiting
        if not self._watched:
            self._loop.add_reader(self._number, self._ready)
            self._watched = True
        timer = self._loop.call_later(wait_s, _settle, waiting, False)
        try:
            return await waiting
        finally:
            timer.cancel()

    def close(self) -> None:
        if self._watched:
            self._loop.remove_reader(self._number)
            self._watched = False

    def _ready(self) -> None:
        if self._waiting is None or self._waiting.done():
            self.close()
        else:
            self._waiting.set_result(True)


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
    answer = _Socket(pgconn.socket)
    try:
        while pgconn.is_busy():
            await answer.readable(CONNECT_TIMEOUT_S)
            pgconn.consume_input()
    finally:
        answer.close()
    result = pgconn.get_result()
    if result is None or result.status != ExecStatus.COPY_BOTH:
        raise errors.error_from_result(result) if result else errors.OperationalError("no answer to START_REPLICATION")


def _wake_for(bytes_min: int, number: int) -> None:
    with socket.socket(fileno=os.dup(number)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, bytes_min)


def _settle(waiting: asyncio.Future[bool], is_readable: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_readable)
