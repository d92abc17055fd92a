"""Made-up bars into PostgreSQL: one transaction per symbol, its minutes and hours by COPY."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg.errors
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import Instrument
from price_service.domain.bars import MINUTE_NS
from price_service.seed.history import HOUR_NS, Candle, MadeUp
from price_service.store.days_pg import Connection, store_connection

_UNSEEDED = """
    SELECT symbol, name, tick_micros, lot, session, previous_close_micros FROM instruments i
    WHERE NOT EXISTS (SELECT FROM seeded s WHERE s.symbol = i.symbol) ORDER BY symbol
"""
_CLAIM = "INSERT INTO seeded (symbol, until) VALUES (%s, %s) ON CONFLICT DO NOTHING"
# Hours are kept for longer than the minutes that they were made of.
_HAS_BARS = """
    SELECT EXISTS (SELECT FROM bars_1m WHERE symbol = %(symbol)s AND bucket < %(minute)s)
        OR EXISTS (SELECT FROM bars_1h WHERE symbol = %(symbol)s AND bucket < %(hour)s)
"""
_COLUMNS = "symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades, notional_micros"
_MINUTES = f"COPY bars_1m ({_COLUMNS}, first_ns, first_session, first_q, last_ns, last_session, last_q) FROM STDIN"
_HOURS = f"COPY bars_1h ({_COLUMNS}) FROM STDIN"
# A session that begins in the evening of a trading day has that day's bar begun already: it goes on from ours.
_DAYS = f"""
    INSERT INTO bars_1d AS held ({_COLUMNS})
    SELECT %s, unnest(%s::timestamptz[]), unnest(%s::bigint[]), unnest(%s::bigint[]), unnest(%s::bigint[]),
        unnest(%s::bigint[]), unnest(%s::bigint[]), unnest(%s::bigint[]), unnest(%s::numeric[])
    ON CONFLICT (symbol, bucket) DO UPDATE SET open_micros = excluded.open_micros,
        high_micros = GREATEST(held.high_micros, excluded.high_micros),
        low_micros = LEAST(held.low_micros, excluded.low_micros),
        close_micros = coalesce(held.close_micros, excluded.close_micros), volume = held.volume + excluded.volume,
        trades = held.trades + excluded.trades, notional_micros = held.notional_micros + excluded.notional_micros
"""
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class PgSeed:
    """Satisfies `ports.SeedStore`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def unseeded(self) -> list[Instrument]:
        async with store_connection(self._engine) as connection:
            cursor = await connection.execute(_UNSEEDED)
            return [Instrument(*row) for row in await cursor.fetchall()]  # type: ignore[arg-type]

    async def save(self, made: MadeUp, before_ns: int) -> bool:
        async with store_connection(self._engine) as connection:
            claimed = await connection.execute(_CLAIM, (made.symbol, _moment(made.until_ns)))
            if claimed.rowcount != 1 or await _has_bars(connection, made.symbol, before_ns):
                return False
            try:
                await _copy(connection, _MINUTES, _minute_lines(made))
                await _copy(connection, _HOURS, _lines(made.symbol, made.hours))
                await connection.execute(_DAYS.encode(), (made.symbol, *_columns(made.days)))
            except psycopg.errors.UniqueViolation:
                return False  # bars of its own came while we wrote
            await connection.commit()
        return True


async def _has_bars(connection: Connection, symbol: str, before_ns: int) -> bool:
    """From before the session: its own first minute and hour may be there already."""
    minute, hour = (_moment(before_ns - before_ns % length) for length in (MINUTE_NS, HOUR_NS))
    cursor = await connection.execute(_HAS_BARS, {"symbol": symbol, "minute": minute, "hour": hour})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _copy(connection: Connection, statement: str, lines: Iterable[str]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        # Elsewhere than in the event loop, where the ingest is.
        await copy.write(await asyncio.to_thread("".join, lines))


def _lines(symbol: str, candles: Iterable[Candle]) -> Iterator[str]:
    """COPY's text format, in which a backslash escapes."""
    name = symbol.translate(_ESCAPED)
    for candle in candles:
        values = "\t".join(map(str, candle[1:]))
        yield f"{name}\t{_text(candle.start_ns)}\t{values}\n"


def _minute_lines(made: MadeUp) -> Iterator[str]:
    """A real trade of the same minute would come between the first and the last of ours."""
    for candle, line in zip(made.minutes, _lines(made.symbol, made.minutes), strict=True):
        start = candle.start_ns
        yield f"{line[:-1]}\t{start}\t0\t0\t{start + MINUTE_NS - 1}\t0\t0\n"


def _columns(candles: Sequence[Candle]) -> list[list[object]]:
    starts, *others = zip(*candles, strict=True)
    return [[_moment(start) for start in starts], *(list(column) for column in others)]


def _text(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).isoformat()


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=time_ns // 1000)
