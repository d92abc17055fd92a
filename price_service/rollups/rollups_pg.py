"""Hours and days from minutes, on PostgreSQL with TimescaleDB. Set-based: nothing but the hours' names travels.

The ingest marks an hour in `bars_dirty` in the transaction that changes one of its minutes, and that transaction begins
by taking the lock of the partition's row in `partition_offsets`. The roll-up takes the same lock before it looks, so
whatever made a mark that it deletes is committed and in what it reads; what comes later marks the hour again.

The twin in memory needs none of this: it makes points of any length from its minutes.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.contracts import PRICES
from price_service.domain.trading_days import NEW_YORK
from price_service.store.days_pg import Connection, store_connection

# About 60 minutes each: a transaction of some tens of milliseconds, for which the partition's ingest waits.
HOURS_MAX = 500

_DIRTY = "SELECT DISTINCT partition FROM bars_dirty"
_LOCK = "SELECT FROM partition_offsets WHERE topic = %s AND partition = %s FOR UPDATE"
# A statement of its own: only a statement that begins after the lock is held sees all that was committed before.
_TAKE = """
    DELETE FROM bars_dirty d USING (
        SELECT symbol, hour FROM bars_dirty WHERE partition = %(partition)s ORDER BY hour, symbol LIMIT %(max)s
    ) oldest
    WHERE d.partition = %(partition)s AND d.symbol = oldest.symbol AND d.hour = oldest.hour
    RETURNING d.symbol, d.hour, date_trunc('day', d.hour, %(zone)s)
"""
# Trades are only ever added. A recomputation with fewer comes from minutes that are not there any more (or, of a
# made-up day, never were), and what it would replace is better.
_ROLL = """
    INSERT INTO {into} AS held (symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades,
        notional_micros)
    SELECT symbol, start,
        first(open_micros, bucket) FILTER (WHERE open_micros IS NOT NULL), max(high_micros), min(low_micros),
        last(close_micros, bucket) FILTER (WHERE close_micros IS NOT NULL),
        sum(volume)::bigint, sum(trades)::bigint, sum(notional_micros)
    FROM unnest(%(symbols)s::text[], %(starts)s::timestamptz[]) AS wanted (symbol, start)
    JOIN {source} b USING (symbol)
    -- Twice the same: an equality to hash by for many hours of a symbol, a range of the index for a few of many.
    WHERE {begins} = start AND b.bucket >= start AND b.bucket < {ends}
        -- Constants, so that only the chunks of this time are planned with.
        AND b.bucket >= %(first)s AND b.bucket < %(last)s::timestamptz + INTERVAL '25 hours'
    GROUP BY symbol, start
    ON CONFLICT (symbol, bucket) DO UPDATE SET open_micros = excluded.open_micros, high_micros = excluded.high_micros,
        low_micros = excluded.low_micros, close_micros = excluded.close_micros, volume = excluded.volume,
        trades = excluded.trades, notional_micros = excluded.notional_micros
    WHERE excluded.trades >= held.trades
"""
_HOURS = _ROLL.format(
    into="bars_1h",
    source="bars_1m",
    begins="date_trunc('hour', b.bucket, 'UTC')",
    ends="start + INTERVAL '1 hour'",
)
_DAYS = _ROLL.format(
    into="bars_1d",
    source="bars_1h",
    begins=f"date_trunc('day', b.bucket, '{NEW_YORK}')",
    ends=f"(start AT TIME ZONE '{NEW_YORK}' + INTERVAL '1 day') AT TIME ZONE '{NEW_YORK}'",
)

Place = tuple[str, datetime]


class PgRollups:
    """Satisfies `ports.RollupStore`."""

    def __init__(self, source: AsyncEngine, hours_max: int = HOURS_MAX) -> None:
        self._engine = source
        self._hours_max = hours_max

    async def dirty(self) -> Collection[int]:
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_DIRTY)
            return [int(str(partition)) for (partition,) in await cursor.fetchall()]

    async def roll(self, partitions: Collection[int]) -> int:
        rolled = 0
        for partition in sorted(partitions):
            taken = self._hours_max
            while taken == self._hours_max:
                async with store_connection(self._engine) as connection:
                    taken = await self._roll(connection, partition)
                    await connection.commit()
                rolled += taken
        return rolled

    async def _roll(self, connection: Connection, partition: int) -> int:
        await connection.execute(_LOCK, (PRICES, partition))
        taken = await connection.execute(_TAKE, {"partition": partition, "max": self._hours_max, "zone": NEW_YORK})
        rows = cast("list[tuple[str, datetime, datetime]]", await taken.fetchall())
        if rows:
            await _aggregate(connection, _HOURS, [(symbol, hour) for symbol, hour, _ in rows])
            await _aggregate(connection, _DAYS, sorted({(symbol, day) for symbol, _, day in rows}))
        return len(rows)


async def _aggregate(connection: Connection, statement: str, places: list[Place]) -> None:
    starts = [start for _, start in places]
    parameters = {
        "symbols": [symbol for symbol, _ in places],
        "starts": starts,
        "first": min(starts),
        "last": max(starts),
    }
    await connection.execute(statement.encode(), parameters, prepare=False)
