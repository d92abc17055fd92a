"""Days and offsets in PostgreSQL (database `prices`), as the ingest and every starting hub read them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
from psycopg import AsyncConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.contracts import PRICES
from infra.db import TRANSIENT, driver
from price_service.domain.days import Day, Snapshot
from price_service.store.records import StoreAway

Connection = AsyncConnection[tuple[object, ...]]

_OFFSETS = "SELECT partition, next_offset FROM partition_offsets WHERE topic = %s"
# A loose index scan: one probe per symbol, however many sessions are kept.
_LATEST = """
    WITH RECURSIVE symbols AS (
        (SELECT symbol FROM tick_marks ORDER BY symbol LIMIT 1)
        UNION ALL
        SELECT (SELECT m.symbol FROM tick_marks m WHERE m.symbol > s.symbol ORDER BY m.symbol LIMIT 1)
        FROM symbols s WHERE s.symbol IS NOT NULL
    )
    SELECT latest.day::text FROM symbols s CROSS JOIN LATERAL (
        SELECT m.day, m.partition FROM tick_marks m WHERE m.symbol = s.symbol ORDER BY m.session DESC LIMIT 1
    ) latest
    WHERE %(all)s OR latest.partition = ANY (%(partitions)s)
"""

_days = msgspec.json.Decoder(Day)


@contextlib.asynccontextmanager
async def store_connection(source: AsyncEngine) -> AsyncIterator[Connection]:
    """A connection whose troubles, also those of getting one, are StoreAway."""
    try:
        async with driver(source) as connection:
            yield connection
    except (*TRANSIENT, SQLAlchemyError) as error:
        raise StoreAway(f"{type(error).__name__}: {error}") from error


async def latest_days(connection: Connection, partitions: list[int] | None) -> list[Day]:
    """The latest day of each symbol, of these partitions or of all."""
    cursor = await connection.execute(_LATEST, {"all": partitions is None, "partitions": partitions or []})
    return [decoded(row[0]) for row in await cursor.fetchall()]


def decoded(day: object) -> Day:
    return _days.decode(str(day))


class PgSnapshots:
    """What a hub starts from when the cache cannot say."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def snapshot(self) -> Snapshot:
        async with store_connection(self._engine) as connection:
            # Offsets first: a day committed in between is newer than its offset, which is harmless; not so otherwise.
            cursor = await connection.execute(_OFFSETS, (PRICES,))
            offsets = {int(str(partition)): int(str(offset)) for partition, offset in await cursor.fetchall()}
            return Snapshot(offsets, await latest_days(connection, None))
