"""The store of the ingest on PostgreSQL with TimescaleDB: ticks by binary COPY; bars, days and offsets by one set-based
statement each; all in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import PRICES, Instrument
from price_service.domain.days import Day, DayKey, Snapshot
from price_service.ingest.rows import COLUMNS, HEADER, TRAILER, rows
from price_service.store.days_pg import decoded, latest_days, store_connection
from price_service.store.records import Batch, Conflict

Connection = AsyncConnection[tuple[object, ...]]

HOUR_NS = 3_600 * NS_PER_S

_ADOPT = """
    INSERT INTO partition_offsets (topic, partition, next_offset) SELECT %(topic)s, unnest(%(partitions)s::int[]), 0
    ON CONFLICT DO NOTHING
"""
_OFFSETS = "SELECT partition, next_offset FROM partition_offsets WHERE topic = %s AND partition = ANY (%s)"
_DAYS = """
    SELECT m.day::text FROM tick_marks m
    JOIN unnest(%s::text[], %s::bigint[]) AS wanted (symbol, session) USING (symbol, session)
"""
_MOVE = """
    UPDATE partition_offsets o SET next_offset = m.following, updated_at = now()
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS m (partition, expected, following)
    WHERE o.topic = %s AND o.partition = m.partition AND o.next_offset = m.expected
"""
COPY = f"COPY ticks ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_MARKS = """
    INSERT INTO tick_marks (symbol, session, partition, contiguous_q, newest_q, day)
    SELECT symbol, session, partition, contiguous_q, newest_q, day FROM json_to_recordset(%s::json) AS d
        (symbol text, session bigint, partition int, contiguous_q bigint, newest_q bigint, day jsonb)
    ON CONFLICT (symbol, session) DO UPDATE SET partition = excluded.partition, contiguous_q = excluded.contiguous_q,
        newest_q = excluded.newest_q, day = excluded.day
"""


def _whichever(place: str, sign: str, *columns: str) -> str:
    """SET of these columns to those of the new bar where its trade named `place` comes first (<) or last (>)."""
    old, new = (", ".join(f"{row}.{place}_{part}" for part in ("ns", "session", "q")) for row in ("b", "excluded"))
    wins = f"b.{place}_ns IS NULL OR ({new}) {sign} ({old})"
    return ", ".join(f"{c} = CASE WHEN {wins} THEN excluded.{c} ELSE b.{c} END" for c in columns)


_OPEN = _whichever("first", "<", "open_micros", "first_ns", "first_session", "first_q")
_CLOSE = _whichever("last", ">", "close_micros", "last_ns", "last_session", "last_q")
# GREATEST and LEAST pass over NULL, and NULL is never first or last: what a bar has whose trades set no prices.
_BARS = f"""
    INSERT INTO bars_1m AS b (symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades,
        notional_micros, first_ns, first_session, first_q, last_ns, last_session, last_q)
    SELECT symbol, to_timestamp(bucket_ns / {NS_PER_S}), open, high, low, close, volume, trades,
        notional_micros, first_ns, first_session, first_q, last_ns, last_session, last_q
    FROM json_to_recordset(%s::json) AS n (symbol text, bucket_ns bigint, open bigint, high bigint, low bigint,
        close bigint, volume bigint, trades bigint, notional_micros numeric, first_ns bigint, first_session bigint,
        first_q bigint, last_ns bigint, last_session bigint, last_q bigint)
    ON CONFLICT (symbol, bucket) DO UPDATE SET {_OPEN}, {_CLOSE},
        high_micros = GREATEST(b.high_micros, excluded.high_micros),
        low_micros = LEAST(b.low_micros, excluded.low_micros),
        volume = b.volume + excluded.volume,
        trades = b.trades + excluded.trades,
        notional_micros = b.notional_micros + excluded.notional_micros,
        received_at = now()
"""
# For the roll-up, which takes them away while it holds the lock that _MOVE took here.
_DIRTY = """
    INSERT INTO bars_dirty (partition, symbol, hour)
    SELECT partition, symbol, to_timestamp(hour) FROM unnest(%s::int[], %s::text[], %s::bigint[])
        AS d (partition, symbol, hour)
    ON CONFLICT DO NOTHING
"""
_LIST = """
    INSERT INTO instruments AS i (symbol, name, tick_micros, lot, session, previous_close_micros)
    SELECT symbol, name, tick_micros, lot, session, previous_close_micros FROM json_to_recordset(%s::json) AS n
        (symbol text, name text, tick_micros bigint, lot bigint, session bigint, previous_close_micros bigint)
    ON CONFLICT (symbol) DO UPDATE SET name = excluded.name, tick_micros = excluded.tick_micros, lot = excluded.lot,
        session = excluded.session, previous_close_micros = excluded.previous_close_micros, updated_at = now()
    WHERE i.session <= excluded.session
"""


class Mark(msgspec.Struct):
    """A row of `tick_marks`: what operators look for beside the day itself."""

    symbol: str
    session: int
    partition: int
    contiguous_q: int
    newest_q: int
    day: Day


class PgTicks:
    """Satisfies `ports.TickStore`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def adopt(self, partitions: Collection[int]) -> Snapshot:
        wanted = sorted(partitions)
        async with store_connection(self._engine) as connection:
            await connection.execute(_ADOPT, {"topic": PRICES, "partitions": wanted})
            cursor = await connection.execute(_OFFSETS, (PRICES, wanted))
            offsets = {int(str(partition)): int(str(offset)) for partition, offset in await cursor.fetchall()}
            days = await latest_days(connection, wanted)
            await connection.commit()
        return Snapshot(offsets, days)

    async def days(self, keys: Collection[DayKey]) -> list[Day]:
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_DAYS, ([k.symbol for k in keys], [k.session for k in keys]))
            return [decoded(row[0]) for row in await cursor.fetchall()]

    async def save(self, batch: Batch) -> None:
        async with store_connection(self._engine) as connection:
            async with connection.pipeline():
                moved = await connection.execute(_MOVE, (*_columns(batch.moves, 3), PRICES), prepare=True)
                if batch.bars:
                    await connection.execute(_BARS, (_json(batch.bars),), prepare=True)
                    await connection.execute(_DIRTY, _columns(_hours(batch), 3), prepare=True)
                if batch.days:
                    await connection.execute(_MARKS, (_json([_mark(day) for day in batch.days]),), prepare=True)
            if moved.rowcount != len(batch.moves):
                raise Conflict(f"{len(batch.moves) - moved.rowcount} partitions were moved by another worker")
            if batch.ticks:
                await _copy(connection, batch)
            await connection.commit()

    async def keep(self, instruments: Iterable[Instrument]) -> None:
        # Two records of one symbol cannot go into one upsert: the later one wins.
        latest = {instrument.symbol: instrument for instrument in sorted(instruments, key=lambda i: i.session)}
        async with store_connection(self._engine) as connection:
            await connection.execute(_LIST, (_json(list(latest.values())),))
            await connection.commit()


async def _copy(connection: Connection, batch: Batch) -> None:
    """PostgreSQL takes up the first rows while the last ones are still being packed."""
    async with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        await copy.write(HEADER)
        for columns in batch.ticks:
            for some in rows(columns):
                await copy.write(some)
        await copy.write(TRAILER)


def _hours(batch: Batch) -> list[tuple[int, str, int]]:
    """(partition, symbol, start of the hour in Unix seconds) of every bar that changes."""
    partitions = {day.symbol: day.partition for day in batch.days}
    hours = {(bar.symbol, bar.bucket_ns - bar.bucket_ns % HOUR_NS) for bar in batch.bars}
    return sorted((partitions[symbol], symbol, hour // NS_PER_S) for symbol, hour in hours)


def _columns(rows: Sequence[tuple[object, ...]], count: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def _mark(day: Day) -> Mark:
    return Mark(day.symbol, day.session, day.partition, day.seen.contiguous, day.seen.newest, day)


def _json(rows: object) -> str:
    return msgspec.json.encode(rows).decode()
