"""What history and search cost on PostgreSQL with TimescaleDB: which chunks, which indexes; and the loader's file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.clock import NS_PER_S
from infra.settings import Infra
from price_service.domain.points import Window
from price_service.history import actions, search_pg
from price_service.history.history_pg import statement
from price_service.history.ranges import INTERVALS, choose, window_of

pytestmark = pytest.mark.real

WEEKS = 8
FIRST = datetime(2024, 1, 4, tzinfo=UTC)
NOW = FIRST + timedelta(weeks=WEEKS)
# Days are few: one symbol's are a hundred rows in four months, in a table without chunks.
TABLES = ("bars_1m", "bars_1h", "ticks")
INSTRUMENTS = 10_000
Connection = psycopg.Connection[tuple[Any, ...]]


def ns(moment: datetime) -> int:
    return round(moment.timestamp()) * NS_PER_S


@pytest.fixture
def connection(prices_db: str) -> Iterator[Connection]:
    with psycopg.connect(prices_db, autocommit=True) as found:
        yield found


def fill(connection: Connection) -> None:
    """Three symbols: a minute an hour for eight weeks, rolled up but for the last day and one hour in the middle."""
    values = "1, 2, 1, 2, 10, 1, 15"
    connection.execute(
        f"INSERT INTO bars_1m (symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades,"
        f" notional_micros) SELECT s, t, {values} FROM unnest(ARRAY['AAPL', 'SPY', 'IBM']) s,"
        " generate_series(%s::timestamptz, %s, '1 hour') t",
        (FIRST, NOW),
    )
    for table, step in (("bars_1h", "1 hour"), ("bars_1d", "1 day")):
        start = FIRST if table == "bars_1h" else FIRST + timedelta(hours=5)
        connection.execute(
            f"INSERT INTO {table} SELECT s, t, {values} FROM unnest(ARRAY['AAPL', 'SPY', 'IBM']) s,"
            f" generate_series(%s::timestamptz - interval '3 years', %s, '{step}') t",
            (start, NOW - timedelta(days=1)),
        )
    connection.execute("INSERT INTO bars_dirty VALUES (3, 'AAPL', %s), (3, 'SPY', %s)", (NOW - timedelta(days=20), NOW))
    connection.execute(
        "INSERT INTO ticks (ts, ns, symbol, session, q, kind, price_micros, size, cond, received_at)"
        " SELECT t, 0, 'AAPL', 1, extract(epoch FROM t)::bigint, 'T', 1, 1, 0, t FROM"
        " generate_series(%s::timestamptz, %s, '10 minutes') t",
        (NOW - timedelta(hours=30), NOW),
    )
    connection.execute("ANALYZE")


def planned(connection: Connection, window: Window, generic: bool = False) -> set[str]:
    """The chunks that the plan of this history names."""
    query, parameters = statement("AAPL", window, 10_001)
    connection.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'force_custom_plan'}")
    rows = connection.execute("EXPLAIN " + query, parameters).fetchall()
    return set(re.findall(r"_hyper_\d+_\d+_chunk", "\n".join(str(row[0]) for row in rows)))


def chunks(connection: Connection, window: Window | None = None) -> dict[str, set[str]]:
    """Table → its chunks, all or those that the window touches."""
    rows = connection.execute(
        "SELECT hypertable_name, chunk_name, range_start, range_end FROM timescaledb_information.chunks"
    ).fetchall()
    found: dict[str, set[str]] = {table: set() for table in TABLES}
    for table, name, start, end in rows:
        if window is None or (ns(start) < window.to_ns and ns(end) > window.from_ns):
            found[table].add(name)
    return found


def test_no_more_chunks_are_read_than_the_range_needs(connection: Connection) -> None:
    fill(connection)
    every = chunks(connection)
    assert {table: len(found) > 1 for table, found in every.items()} == dict.fromkeys(TABLES, True)
    sources = {"1s": {"ticks"}, "1h": {"bars_1h", "bars_1m"}}
    for interval in INTERVALS:
        reads = sources.get(interval, {"bars_1m"})
        for back, length in (
            (timedelta(hours=1),) * 2,
            (timedelta(days=2),) * 2,
            (timedelta(days=18), timedelta(days=9)),
        ):
            if interval == "1s" and length > timedelta(hours=1):
                continue
            window = window_of(ns(NOW - back), ns(NOW - back + length), interval)
            needed = set().union(*(found for table, found in chunks(connection, window).items() if table in reads))
            assert planned(connection, window) <= needed, (interval, length)
            assert planned(connection, window), (interval, length)
    month = choose({"timerange": "1m", "interval": "1h"}, ns(NOW)).window
    assert len(planned(connection, month)) < len(every["bars_1m"] | every["bars_1h"]) / 2


def test_a_prepared_statement_leaves_out_the_same_chunks(connection: Connection) -> None:
    """The driver prepares what it asks often; a plan made without the range leaves chunks out as it runs."""
    fill(connection)
    window = window_of(ns(NOW - timedelta(days=2)), ns(NOW), "1m")
    query, parameters = statement("AAPL", window, 100)
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.execute("SET enable_seqscan = off")
    touched = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_xact_user_tables WHERE relname = ANY (%s)"
    needed = chunks(connection, window)["bars_1m"]
    others = chunks(connection)["bars_1m"] - needed
    assert others
    with connection.transaction():
        rows = connection.execute(query, parameters, prepare=True).fetchall()
        assert len(rows) == 48
        counted = [connection.execute(touched, (list(names),)).fetchone() for names in (needed, others)]
    assert [int(row[0]) > 0 for row in counted if row is not None] == [True, False]


def test_search_among_ten_thousand_uses_its_indexes(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO instruments (symbol, name, tick_micros, lot, session, previous_close_micros)"
        " SELECT 'S' || upper(substr(md5(n::text), 1, 4)) || n, initcap(substr(md5(n::text), 5, 6)) || ' ' ||"
        " initcap(substr(md5(n::text), 11, 7)) || ' Corp', 1, 1, 1, 1 FROM generate_series(1, %s) n",
        (INSTRUMENTS - 1,),
    )
    connection.execute("INSERT INTO instruments VALUES ('MSFT', 'Microsoft Corporation', 1, 1, 1, 1)")
    connection.execute("ANALYZE instruments")
    connection.execute("VACUUM instruments")
    for typed in ("MSFT", "MSF", "microsoft", "micorsoft", "corporation micro", "0a1b2c", "zzz"):
        query, parameters = search_pg.statement(typed, 20, NOW)
        with connection.transaction():
            connection.execute(search_pg.SETTINGS)
            rows = connection.execute("EXPLAIN " + query, parameters).fetchall()
            found = connection.execute(query, parameters).fetchall()
        plan = "\n".join(str(row[0]) for row in rows)
        assert "Seq Scan on instruments" not in plan, plan
        assert "instruments_symbol_like" in plan
        assert "instruments_name_like" in plan
        assert (("MSFT", "Microsoft Corporation") in found) == (typed not in ("0a1b2c", "zzz"))


def test_corporate_actions_are_loaded_from_a_file(
    connection: Connection,
    prices_db: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "actions.csv"
    monkeypatch.setattr(Infra, "dsn", lambda _, database: {"prices": prices_db}[database])
    for numerator in (1, 2):
        file.write_text(f"{','.join(actions.HEADER)}\nAAPL,2020-08-31,split,{numerator},4\n")
        assert actions.main([str(file)], {}) == 0
    assert capsys.readouterr().out == "1 corporate actions stored\n" * 2
    rows = connection.execute("SELECT symbol, ex_date::text, kind, price_numerator FROM corporate_actions").fetchall()
    assert rows == [("AAPL", "2020-08-31", "split", 2)]
