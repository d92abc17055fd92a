"""History from PostgreSQL with TimescaleDB, each interval from the table that is nearest to it.

Hours and days are rolled up behind the bars, so a read of them is made of three parts in one statement, that is in one
snapshot: what is rolled up and still true; the minutes of what has changed since (`bars_dirty`, which the ingest writes
in the transaction of the bars); and the minutes after the last bucket that is rolled up at all. Of a bucket that has
fewer trades in its minutes than where it is rolled up, the minutes are gone or never were, as the roll-up has it too.
Every part has the range's bounds as plain conditions on its time column: no chunk outside the range is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from price_service.domain.bars import MINUTE_NS
from price_service.domain.conditions import VOLUME_ONLY
from price_service.domain.points import About, Action, Found, Point, Window
from price_service.history.search_pg import found
from price_service.store.days_pg import store_connection

HOUR_NS = 3600 * NS_PER_S

_IN_RANGE = "symbol = %(symbol)s AND {time} >= %(from)s AND {time} < %(to)s"
_BARS_IN_RANGE = _IN_RANGE.format(time="bucket")
_VALUES = "open_micros, high_micros, low_micros, close_micros, volume, trades, notional_micros"
_NEWEST = """
    SELECT (extract(epoch FROM start) * 1000000000)::bigint, {values} FROM ({rows} ORDER BY start DESC LIMIT %(max)s) n
    ORDER BY start
"""
_ADDED_UP = """
    first(open_micros, bucket) FILTER (WHERE open_micros IS NOT NULL) AS open_micros, max(high_micros) AS high_micros,
    min(low_micros) AS low_micros, last(close_micros, bucket) FILTER (WHERE close_micros IS NOT NULL) AS close_micros,
    sum(volume)::bigint AS volume, sum(trades)::bigint AS trades, sum(notional_micros) AS notional_micros
"""

_MINUTES = _NEWEST.format(values=_VALUES, rows=f"SELECT bucket AS start, {_VALUES} FROM bars_1m WHERE {_BARS_IN_RANGE}")
# So many minutes hold all the buckets that are wanted: only these are read and added up.
_EVEN = _NEWEST.format(
    values=_VALUES,
    rows=f"""
        SELECT time_bucket(%(width)s, bucket) AS start, {_ADDED_UP} FROM (
            SELECT bucket, {_VALUES} FROM bars_1m WHERE {_BARS_IN_RANGE}
            ORDER BY bucket DESC LIMIT %(max)s::bigint * %(minutes)s
        ) newest_minutes GROUP BY start
    """,
)
# A loose index scan over the partitions: `bars_dirty` is asked by symbol, and its index begins with the partition.
_ROLLED = f"""
    WITH RECURSIVE partitions (partition) AS (
        (SELECT partition FROM bars_dirty ORDER BY partition LIMIT 1)
        UNION ALL
        SELECT (SELECT d.partition FROM bars_dirty d WHERE d.partition > p.partition ORDER BY d.partition LIMIT 1)
        FROM partitions p WHERE p.partition IS NOT NULL
    ), changed AS MATERIALIZED (
        SELECT DISTINCT {{start_of_hour}} AS start FROM partitions p CROSS JOIN LATERAL (
            SELECT hour FROM bars_dirty d
            WHERE d.partition = p.partition AND d.symbol = %(symbol)s AND hour >= %(from)s AND hour < %(to)s
        ) dirty
    ), rest AS MATERIALIZED (
        SELECT coalesce((
            SELECT {{end_of_bucket}} FROM {{table}} WHERE {_BARS_IN_RANGE} ORDER BY bucket DESC LIMIT 1
        ), %(from)s) AS start
    ), again AS MATERIALIZED (
        SELECT c.start, added.* FROM changed c CROSS JOIN LATERAL (
            SELECT {_ADDED_UP} FROM bars_1m
            WHERE {_BARS_IN_RANGE} AND bucket >= c.start AND bucket < {{end_of_changed}} HAVING count(*) > 0
        ) added WHERE c.start < (SELECT start FROM rest)
    )
    SELECT bucket AS start, {_VALUES} FROM {{table}} rolled
    WHERE {_BARS_IN_RANGE}
        AND NOT EXISTS (SELECT FROM again a WHERE a.start = rolled.bucket AND a.trades >= rolled.trades)
    UNION ALL
    SELECT * FROM again a WHERE NOT EXISTS (
        SELECT FROM {{table}} WHERE {_BARS_IN_RANGE} AND bucket = a.start AND trades > a.trades
    )
    UNION ALL
    SELECT {{start_of_minute}} AS start, {_ADDED_UP} FROM bars_1m
    WHERE {_BARS_IN_RANGE} AND bucket >= (SELECT start FROM rest) GROUP BY 1
"""
_HOURS = _NEWEST.format(
    values=_VALUES,
    rows=_ROLLED.format(
        table="bars_1h",
        start_of_hour="hour",
        start_of_minute="time_bucket('1 hour', bucket)",
        end_of_bucket="bucket + interval '1 hour'",
        end_of_changed="c.start + interval '1 hour'",
    ),
)
_DAYS = _NEWEST.format(
    values=_VALUES,
    rows=_ROLLED.format(
        table="bars_1d",
        start_of_hour="date_trunc('day', hour, %(zone)s)",
        start_of_minute="date_trunc('day', bucket, %(zone)s)",
        end_of_bucket="date_add(bucket, '1 day', %(zone)s)",
        end_of_changed="date_add(c.start, '1 day', %(zone)s)",
    ),
)
_SETS_PRICES = f"cond & {VOLUME_ONLY} = 0"
_SECONDS = _NEWEST.format(
    values=_VALUES,
    rows=f"""
        SELECT time_bucket('1 second', ts) AS start,
            (array_agg(price_micros ORDER BY ts, ns, session, q) FILTER (WHERE {_SETS_PRICES}))[1] AS open_micros,
            max(price_micros) FILTER (WHERE {_SETS_PRICES}) AS high_micros,
            min(price_micros) FILTER (WHERE {_SETS_PRICES}) AS low_micros,
            (array_agg(price_micros ORDER BY ts DESC, ns DESC, session DESC, q DESC)
                FILTER (WHERE {_SETS_PRICES}))[1] AS close_micros,
            sum(size)::bigint AS volume, count(*) AS trades, sum(price_micros::numeric * size) AS notional_micros
        FROM ticks WHERE {_IN_RANGE.format(time="ts")} AND kind = 'T' GROUP BY start
    """,
)
_ABOUT = """
    SELECT EXISTS (SELECT FROM instruments WHERE symbol = %(symbol)s)
            OR EXISTS (SELECT FROM tick_marks WHERE symbol = %(symbol)s),
        (SELECT (extract(epoch FROM until) * 1000000000)::bigint FROM seeded WHERE symbol = %(symbol)s)
"""
_ACTIONS = """
    SELECT ex_date, kind, price_numerator, price_denominator FROM corporate_actions WHERE symbol = %(symbol)s
    ORDER BY ex_date, kind
"""


class PgHistory:
    """Satisfies `ports.HistoryStore`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def points(self, symbol: str, window: Window, points_max: int) -> list[Point]:
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(*statement(symbol, window, points_max))
            rows = await cursor.fetchall()
        return [_point(row) for row in rows]

    async def about(self, symbol: str) -> About:
        async with store_connection(self._engine) as connection, connection.pipeline():
            asked = await connection.execute(_ABOUT, {"symbol": symbol})
            actions = await connection.execute(_ACTIONS, {"symbol": symbol})
            known, until_ns = await asked.fetchone() or (False, None)
            listed = [Action(*row) for row in await actions.fetchall()]  # type: ignore[arg-type]
        return About(bool(known), None if until_ns is None else int(str(until_ns)), listed)

    async def search(self, text: str, found_max: int, traded_since_ns: int) -> list[Found]:
        async with store_connection(self._engine) as connection:
            return await found(connection, text, found_max, _moment(traded_since_ns))


def statement(symbol: str, window: Window, points_max: int) -> tuple[str, dict[str, object]]:
    """The query for these points, with its parameters."""
    parameters: dict[str, object] = {
        "symbol": symbol,
        "from": _moment(window.from_ns),
        "to": _moment(window.to_ns),
        "max": points_max,
    }
    if window.zone is not None:
        return _DAYS, parameters | {"zone": window.zone}
    if window.bucket_ns == NS_PER_S:
        return _SECONDS, parameters
    if window.bucket_ns == MINUTE_NS:
        return _MINUTES, parameters
    if window.bucket_ns == HOUR_NS:
        return _HOURS, parameters
    width = timedelta(microseconds=window.bucket_ns // 1000)
    return _EVEN, parameters | {"width": width, "minutes": window.bucket_ns // MINUTE_NS}


def _point(row: Sequence[object]) -> Point:
    """The sum of notionals may be longer than 64 bits and comes as a decimal without a fraction."""
    *values, notional = row
    return Point(*values, int(notional))  # type: ignore[call-arg, call-overload, arg-type]


def _moment(time_ns: int) -> datetime:
    """Rounded up to the microsecond, which is all that is needed: every interval is of whole seconds."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=-(-time_ns // 1000))
