"""Ticks that were stored, from PostgreSQL.

The only index of `ticks` begins with the time, so a read by sequence numbers needs bounds of time. The lower one is the
newest minute bar whose last trade is not above the number asked for, the upper one the symbol's newest tick of that
session; both with a margin, since times may be a little out of the order of numbers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import Quote, Tick, Trade
from price_service.live.ticks_since import PAGE, Stored
from price_service.store.days_pg import Connection, decoded, store_connection
from price_service.store.records import Received

MARGIN_NS = 60 * NS_PER_S
# How many bars of a symbol are looked at, newest first: about three days of them.
BARS_MAX = 2_000
_DAY_NS = 86_400 * NS_PER_S

_SESSIONS = """
    SELECT session, newest_q FROM tick_marks WHERE symbol = %s AND session >= %s ORDER BY session DESC LIMIT %s
"""
_DAY = "SELECT day::text FROM tick_marks WHERE symbol = %s AND session = %s"
_BAR = """
    SELECT last_ns FROM (
        SELECT bucket, last_ns, last_session, last_q FROM bars_1m
        WHERE symbol = %(symbol)s AND bucket <= %(to)s ORDER BY bucket DESC LIMIT %(max)s
    ) newest
    WHERE last_session = %(session)s AND last_q <= %(after)s ORDER BY bucket DESC LIMIT 1
"""
# Keyset by (ts, q): a page begins where the one before ended.
PAGE_SQL = """
    SELECT (extract(epoch FROM ts) * 1000000)::bigint AS us, ns, q, kind, price_micros, size, cond, exch, bid_micros,
        bid_size, ask_micros, ask_size, (extract(epoch FROM received_at) * 1000)::bigint
    FROM ticks
    WHERE ts >= %(from)s AND ts <= %(to)s AND symbol = %(symbol)s AND session = %(session)s AND q > %(after)s
        AND (ts, q) > (%(from)s, %(from_q)s)
    ORDER BY ts, q LIMIT %(max)s
"""


class PgTicksSince:
    """Satisfies `ticks_since.TicksSince`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def sessions(self, symbol: str, since: int, sessions_max: int) -> list[Stored]:
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_SESSIONS, (symbol, since, sessions_max))
            rows = await cursor.fetchall()
        return [Stored(int(str(session)), int(str(newest))) for session, newest in reversed(rows)]

    async def pages(self, symbol: str, session: int, after_q: int) -> AsyncIterator[list[Received]]:
        async with store_connection(self._engine) as connection:
            bounds = await bounds_of(connection, symbol, session, after_q)
        if bounds is None:
            return
        asked: dict[str, Any] = {"symbol": symbol, "session": session, "after": after_q, "max": PAGE}
        asked |= {"from": bounds[0], "to": bounds[1], "from_q": -1}
        is_full = True
        while is_full:
            # A connection per page: a slow client must not keep one.
            async with store_connection(self._engine) as connection:
                rows: list[Any] = await (await connection.execute(PAGE_SQL, asked)).fetchall()
            is_full = len(rows) == PAGE
            if rows:
                asked |= {"from": _moment(rows[-1][0] * 1000), "from_q": rows[-1][2]}
                yield [Received(_tick(symbol, session, row), row[12]) for row in rows]


async def bounds_of(
    connection: Connection, symbol: str, session: int, after_q: int
) -> tuple[datetime, datetime] | None:
    """The times between which these ticks are; None when the session is not known."""
    row = await (await connection.execute(_DAY, (symbol, session))).fetchone()
    if row is None:
        return None
    to_ns = decoded(row[0]).time_ns + MARGIN_NS
    asked = {"symbol": symbol, "session": session, "after": after_q, "to": _moment(to_ns), "max": BARS_MAX}
    bar = await (await connection.execute(_BAR, asked)).fetchone()
    # A session's number is its start; where times are those of a recorded day, it says nothing about them.
    started_ns = session * NS_PER_S if session * NS_PER_S < to_ns else to_ns - _DAY_NS
    from_ns = started_ns if bar is None else int(str(bar[0]))
    return _moment(from_ns - MARGIN_NS), _moment(to_ns)


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=time_ns // 1000)


def _tick(symbol: str, session: int, row: Any) -> Tick:
    us, ns, q, kind = row[:4]
    if kind in (b"T", "T"):
        return Trade(symbol, session, q, us * 1000 + ns, row[4], row[5], row[6] or 0, row[7] or "")
    return Quote(symbol, session, q, us * 1000 + ns, row[8], row[9], row[10], row[11])
