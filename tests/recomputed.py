"""What must be in the store after a tape was sent, computed from its file by DuckDB with rules written once more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import psycopg

# 0x2000 form-T, 0x4000 outside hours, 0x80000000 odd lot: such trades have volume, and set no prices.
TICKS = """
    CREATE TABLE ticks AS SELECT symbol, kind, ts_event AS t, cond, price_e4 * 100::BIGINT AS price, size,
        coalesce(bid_e4, 0) * 100::BIGINT AS bid, coalesce(bid_sz, 0) AS bid_size,
        coalesce(ask_e4, 0) * 100::BIGINT AS ask, coalesce(ask_sz, 0) AS ask_size,
        row_number() OVER (PARTITION BY symbol ORDER BY seq) AS q,
        kind = 'T' AND (cond & 8192) = 0 AND (cond & 16384) = 0 AND (cond & 2147483648) = 0 AS sets
    FROM read_parquet(?)
"""
SYMBOLS = """
    SELECT symbol, count(*), count(*), min(q), max(q), sum(coalesce(price, 0)), sum(coalesce(size, 0)),
        sum(CASE WHEN kind = 'Q' THEN bid + ask ELSE 0 END),
        sum(CASE WHEN kind = 'Q' THEN bid_size + ask_size ELSE 0 END), sum(q * (t % 1000003))
    FROM ticks GROUP BY symbol ORDER BY symbol
"""
STORED_SYMBOLS = """
    SELECT symbol, count(*), count(DISTINCT q), min(q), max(q), sum(coalesce(price_micros, 0)), sum(coalesce(size, 0)),
        sum(coalesce(bid_micros + ask_micros, 0)), sum(coalesce(bid_size + ask_size, 0)),
        sum(q * (((extract(epoch FROM ts) * 1000000)::bigint * 1000 + ns) %% 1000003))
    FROM ticks WHERE session = %s GROUP BY symbol ORDER BY symbol
"""
BARS = """
    SELECT symbol, t // 60000000000 * 60 AS minute, first(price ORDER BY t, q) FILTER (sets) AS open,
        max(price) FILTER (sets) AS high, min(price) FILTER (sets) AS low,
        last(price ORDER BY t, q) FILTER (sets) AS close,
        sum(size)::BIGINT AS volume, count(*) AS trades, sum(price::HUGEINT * size) AS notional
    FROM ticks WHERE kind = 'T' GROUP BY ALL
"""
STORED_BARS = """
    COPY (SELECT symbol, extract(epoch FROM bucket)::bigint AS minute, open_micros AS open, high_micros AS high,
        low_micros AS low, close_micros AS close, volume, trades, notional_micros AS notional FROM bars_1m)
    TO STDOUT (FORMAT CSV, HEADER)
"""
BAR_TYPES = {"notional": "HUGEINT", "symbol": "VARCHAR"} | dict.fromkeys(
    ("minute", "open", "high", "low", "close", "volume", "trades"), "BIGINT"
)


class Recomputed:
    """The tape's truth. `folder` takes what is fetched for comparison."""

    def __init__(self, tape: Path, folder: Path) -> None:
        self._folder = folder
        self._db = duckdb.connect(config={"threads": 2})
        self._db.execute(TICKS, [str(tape)])

    def check(self, dsn: str, session: int) -> tuple[int, int]:
        """Every number of every symbol once, with its values; every bar equal, its VWAP with it. Returns how many ticks
        and bars that were."""
        with psycopg.connect(dsn) as connection:
            stored = [tuple(map(_plain, row)) for row in connection.execute(STORED_SYMBOLS, (session,)).fetchall()]
            bars = self._bars(connection)
        expected = [tuple(map(_plain, row)) for row in self._db.execute(SYMBOLS).fetchall()]
        assert stored == expected, _difference(stored, expected)
        types = ", ".join(f"'{name}': '{kind}'" for name, kind in BAR_TYPES.items())
        held = f"(SELECT {', '.join(BAR_NAMES)} FROM read_csv('{bars}', header = true, types = {{{types}}}))"
        for one, other in ((held, f"({BARS})"), (f"({BARS})", held)):
            wrong = self._db.execute(f"SELECT * FROM {one} EXCEPT SELECT * FROM {other} LIMIT 5").fetchall()
            assert not wrong, f"bars that differ: {wrong}"
        count = self._db.execute(f"SELECT count(*) FROM {held}").fetchone()
        assert count is not None
        return sum(int(str(row[1])) for row in stored), int(count[0])

    def _bars(self, connection: psycopg.Connection[tuple[object, ...]]) -> Path:
        path = self._folder / "bars.csv"
        with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(STORED_BARS) as copied:
            for data in copied:
                file.write(data)
        return path


BAR_NAMES = ("symbol", "minute", "open", "high", "low", "close", "volume", "trades", "notional")


def _plain(value: object) -> object:
    """Sums come as Decimal from one side and as int from the other."""
    return value if isinstance(value, str) else int(str(value))


def _difference(stored: Sequence[object], expected: Sequence[object]) -> str:
    wrong = [pair for pair in zip(stored, expected, strict=False) if pair[0] != pair[1]]
    return f"{len(stored)} symbols stored, {len(expected)} sent; first differences (stored, sent): {wrong[:3]}"
