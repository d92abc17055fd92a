"""Dropping old chunks, and what the community edition of TimescaleDB does better than we (docs/adr/0014)."""

from __future__ import annotations

import psycopg
import structlog
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from price_service.rollups.editions import can_compress
from price_service.rollups.ports import Dropped
from price_service.store.days_pg import Connection, store_connection

log = structlog.get_logger(__name__)

COMPRESSED_AFTER = "7 days"
LOCK_WAIT = "2s"

_EDITION = """
    SELECT current_setting('timescaledb.license', true), bool_or(compression_enabled)
    FROM timescaledb_information.hypertables WHERE hypertable_name = 'ticks'
"""
# By when a chunk was made, as for retention: a recorded day's is not old when it is received.
_COMPRESS = f"""
    ALTER TABLE ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol',
        timescaledb.compress_orderby = 'ts, session, q');
    SELECT add_compression_policy('ticks', compress_created_before => INTERVAL '{COMPRESSED_AFTER}',
        if_not_exists => true)
"""
_CHUNKS = """
    SELECT chunk_schema, chunk_name, range_start, range_end FROM timescaledb_information.chunks
    WHERE hypertable_name = %s AND range_end < now() - make_interval(days => %s) ORDER BY range_start
"""
_YOUNG = "SELECT EXISTS (SELECT FROM {} WHERE received_at >= now() - make_interval(days => %s))"
_DROP = "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz)"

_REFUSED = (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.InternalError, psycopg.DataError)

Row = tuple[object, ...]


class PgRetention:
    """Satisfies `ports.RetentionStore`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def compress(self, allowed: bool) -> bool:
        """What the server refuses is logged: a chunk that stays as it is harms nobody."""
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_EDITION)
            license_setting, is_on = await cursor.fetchone() or (None, None)
            wanted = can_compress(None if license_setting is None else str(license_setting), allowed)
            if not wanted or is_on:
                return wanted
            try:
                await connection.execute(_COMPRESS.encode())
                await connection.commit()
            except _REFUSED as error:
                log.error("ticks_not_compressed", error=str(error).strip())
                return False
        return True

    async def drop(self, table: str, kept_days: int, chunks_max: int) -> list[Dropped]:
        """A trade is never received before it is made, so a chunk of young event times is young without a look."""
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_CHUNKS, (table, kept_days))
            candidates = await cursor.fetchall()
            await connection.commit()
            dropped: list[Dropped] = []
            for chunk in candidates:
                if len(dropped) == chunks_max:
                    break
                if await _dropped(connection, table, kept_days, chunk):
                    dropped.append(Dropped(table, str(chunk[1])))
        return dropped


async def _dropped(connection: Connection, table: str, kept_days: int, chunk: Row) -> bool:
    """In a transaction of its own; a chunk that is in use stays for the next round."""
    schema, name, start, end = chunk
    place = sql.Identifier(str(schema), str(name))
    try:
        if await _is_young(connection, place, kept_days):
            return False
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        # From here on nothing is added to it, so it is looked at once more.
        await connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(place))
        if await _is_young(connection, place, kept_days):
            return False
        await connection.execute(_DROP, (table, end, start))
        await connection.commit()
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable) as error:
        log.warning("chunk_not_dropped", table=table, chunk=name, error=str(error).strip())
        return False
    else:
        return True
    finally:
        await connection.rollback()


async def _is_young(connection: Connection, place: sql.Identifier, kept_days: int) -> bool:
    cursor = await connection.execute(sql.SQL(_YOUNG).format(place), (kept_days,))
    row = await cursor.fetchone()
    return bool(row and row[0])
