"""PostgreSQL: engines, and work that only one process may do at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol, cast

import psycopg
import sqlalchemy.exc
import structlog
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncConnection as EngineConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from infra.clock import wait
from infra.process import Part

log = structlog.get_logger(__name__)

LEASE_POLL_S = 1.0
LEASE_ANSWER_S = 5.0
# What a restart of the server or a lost connection looks like, from the driver itself or through the engine, which
# wraps what happens while it connects. Nothing was decided: the work is safe to repeat.
TRANSIENT = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
    ConnectionError,
    TimeoutError,
)


def engine(dsn: str, application: str, connections_max: int = 8) -> AsyncEngine:
    """An engine on psycopg 3. Connections are made on first use."""
    url = dsn.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_async_engine(
        url,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=5,
        connect_args={"application_name": application, "connect_timeout": 5},
    )


@contextlib.asynccontextmanager
async def driver(source: AsyncEngine) -> AsyncIterator[AsyncConnection[tuple[object, ...]]]:
    """The engine's own psycopg connection, for pipelines and COPY. The caller commits; leaving without rolls back.

    A connection that broke is not given back to the pool, and its idle neighbours are not trusted either: after a
    restart of the server each of them would fail once more.
    """
    async with source.connect() as connection:
        raw = await connection.get_raw_connection()
        inner = cast("AsyncConnection[tuple[object, ...]]", raw.driver_connection)
        try:
            yield inner
        finally:
            await _given_back(source, connection, inner)


async def _given_back(
    source: AsyncEngine, connection: EngineConnection, inner: AsyncConnection[tuple[object, ...]]
) -> None:
    if not inner.closed:
        try:
            await inner.rollback()
            return
        except psycopg.Error as error:
            log.warning("connection_broke", error=str(error))
    await connection.invalidate()
    await source.dispose()


class Checkpoints(Protocol):
    """Positions of work that runs once, by name."""

    async def read(self, name: str) -> str | None: ...

    async def write(self, name: str, position: str) -> None: ...


class PgCheckpoints:
    """Rows of the table `checkpoints` (database `orders`)."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def read(self, name: str) -> str | None:
        async with driver(self._engine) as connection:
            cursor = await connection.execute("SELECT position FROM checkpoints WHERE name = %s", (name,))
            row = await cursor.fetchone()
        return None if row is None else str(row[0])

    async def write(self, name: str, position: str) -> None:
        async with driver(self._engine) as connection:
            await connection.execute(
                "INSERT INTO checkpoints (name, position, updated_at) VALUES (%s, %s, now()) "
                "ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = now()",
                (name, position),
            )
            await connection.commit()


class MemoryCheckpoints:
    """The twin of PgCheckpoints."""

    def __init__(self) -> None:
        self._rows: dict[str, str] = {}

    async def read(self, name: str) -> str | None:
        return self._rows.get(name)

    async def write(self, name: str, position: str) -> None:
        self._rows[name] = position


def leased(dsn: str, name: str, part: Part) -> Part:
    """`part`, run only while this process holds the advisory lock `name`; another process takes over when it ends.

    The lock lives in one session: it is lost when the connection is, and then the part is stopped. For the moment until
    it has stopped two may run, so what it does must be safe to do twice.
    """

    async def hold(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with await AsyncConnection.connect(dsn, autocommit=True, connect_timeout=5) as session:
                    await _hold_once(session, name, part, stop)
            except TRANSIENT as error:
                log.warning("lease_lost", lease=name, error=str(error))
            await wait(stop, LEASE_POLL_S)

    return hold


async def _hold_once(session: AsyncConnection[tuple[object, ...]], name: str, part: Part, stop: asyncio.Event) -> None:
    while not stop.is_set():
        cursor = await session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))
        if (row := await cursor.fetchone()) and row[0]:
            break
        await wait(stop, LEASE_POLL_S)
    if stop.is_set():
        return
    log.info("lease_taken", lease=name)
    ended = asyncio.Event()
    work = asyncio.ensure_future(part(ended))
    watching = asyncio.ensure_future(_until_lost(session, ended))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        work.cancel()
        raise
    finally:
        stopping.cancel()
        watching.cancel()
        ended.set()
        # The lock is kept until the part has ended, whatever it ends with.
        await asyncio.gather(work, watching, return_exceptions=True)
    for done in (work, watching):
        if not done.cancelled() and (error := done.exception()) is not None:
            raise error


async def _until_lost(session: AsyncConnection[tuple[object, ...]], ended: asyncio.Event) -> None:
    """Raises as soon as the session's connection is gone. Looks at `ended` too: before Python 3.12 a cancellation that
    meets the answer it waits for (in the driver's own `wait_for`) can be lost."""
    while not ended.is_set():
        async with asyncio.timeout(LEASE_ANSWER_S):
            await session.execute("SELECT 1")
        # Waits on the socket, so a connection that the server closes is noticed at once.
        async for _ in session.notifies(timeout=LEASE_POLL_S):
            pass
