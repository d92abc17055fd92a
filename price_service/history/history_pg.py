"""History from PostgreSQL with TimescaleDB: longer points are rolled up from one-minute bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from price_service.domain.points import Found, Point, Window
from price_service.store.days_pg import store_connection

_POINTS = """
    SELECT (extract(epoch FROM start) * 1000000000)::bigint, open, high, low, close, volume, trades, notional FROM (
        SELECT {bucket} AS start,
            first(open_micros, bucket) FILTER (WHERE open_micros IS NOT NULL) AS open, max(high_micros) AS high,
            min(low_micros) AS low, last(close_micros, bucket) FILTER (WHERE close_micros IS NOT NULL) AS close,
            sum(volume)::bigint AS volume, sum(trades)::bigint AS trades, sum(notional_micros) AS notional
        FROM bars_1m WHERE symbol = %(symbol)s AND bucket >= %(from)s AND bucket < %(to)s
        GROUP BY start ORDER BY start DESC LIMIT %(max)s
    ) newest ORDER BY start
"""
_EVEN = _POINTS.format(bucket="time_bucket(%(width)s, bucket)")
_DAYS = _POINTS.format(bucket="date_trunc('day', bucket, %(zone)s)")
_SEARCH = """
    SELECT symbol, name FROM instruments
    WHERE symbol LIKE %(prefix)s OR name ILIKE %(inside)s
    ORDER BY symbol NOT LIKE %(prefix)s, symbol COLLATE "C" LIMIT %(max)s
"""
_KNOWN = """
    SELECT EXISTS (SELECT FROM instruments WHERE symbol = %(symbol)s)
        OR EXISTS (SELECT FROM tick_marks WHERE symbol = %(symbol)s)
"""


class PgHistory:
    """Satisfies `ports.HistoryStore`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def points(self, symbol: str, window: Window, points_max: int) -> list[Point]:
        parameters = {
            "symbol": symbol,
            "from": _moment(window.from_ns),
            "to": _moment(window.to_ns),
            "width": timedelta(microseconds=window.bucket_ns // 1000),
            "zone": window.zone,
            "max": points_max,
        }
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_DAYS if window.zone else _EVEN, parameters)
            return [Point(*(None if v is None else int(str(v)) for v in row)) for row in await cursor.fetchall()]  # type: ignore[arg-type]

    async def search(self, text: str, found_max: int) -> list[Found]:
        literal = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        parameters = {"prefix": f"{literal.upper()}%", "inside": f"%{literal}%", "max": found_max}
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_SEARCH, parameters)
            return [Found(str(symbol), str(name)) for symbol, name in await cursor.fetchall()]

    async def known(self, symbol: str) -> bool:
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_KNOWN, {"symbol": symbol})
            row = await cursor.fetchone()
        return bool(row and row[0])


def _moment(time_ns: int) -> datetime:
    """Rounded up to the microsecond, which is all that bars need: they start at whole minutes."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=-(-time_ns // 1000))
