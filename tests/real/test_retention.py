"""Old chunks go, by when they were received; the edition of the server is found out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.db import driver, engine
from price_service.rollups.retention import Retention
from price_service.rollups.retention_pg import PgRetention

pytestmark = pytest.mark.real
# Event time, receive time: before now.
OLD, YOUNG = ("40 days", "40 days"), ("1 day", "1 day")
RECORDED = ("4000 days", "0 days")
LATE = ("40 days", "2 days")


@pytest.fixture
async def prices(prices_db: str) -> AsyncIterator[AsyncEngine]:
    source = engine(prices_db, "test")
    yield source
    await source.dispose()


async def put(prices: AsyncEngine, table: str, *ages: tuple[str, str]) -> None:
    """One row per age, each named by its number. Ages of one chunk are a few minutes apart at most."""
    columns = {
        "ticks": "ts, ns, symbol, session, q, kind, received_at",
        "bars_1m": "bucket, symbol, volume, trades, notional_micros, received_at",
    }[table]
    values = {
        "ticks": "date_trunc('day', now() - %s::interval), 0, 'AAPL', 1, %s, 'T', now() - %s::interval",
        "bars_1m": "date_trunc('day', now() - %s::interval), 'A' || %s, 1, 1, 1, now() - %s::interval",
    }[table]
    async with driver(prices) as connection:
        for number, (event, received) in enumerate(ages):
            statement = f"INSERT INTO {table} ({columns}) VALUES ({values})"
            await connection.execute(statement.encode(), (event, number, received))
        await connection.commit()


async def left(prices: AsyncEngine, table: str) -> list[int]:
    async with driver(prices) as connection:
        name = {"ticks": "q", "bars_1m": "substr(symbol, 2)::bigint"}[table]
        cursor = await connection.execute(f"SELECT {name} FROM {table} ORDER BY 1".encode())
        return [int(str(number)) for (number,) in await cursor.fetchall()]


async def test_what_was_received_long_ago_goes_and_a_recorded_day_received_today_stays(prices: AsyncEngine) -> None:
    await put(prices, "ticks", OLD, YOUNG, RECORDED)
    (dropped,) = await PgRetention(prices).drop("ticks", 30, chunks_max=10)
    assert dropped.table == "ticks"
    assert await left(prices, "ticks") == [1, 2]
    assert await PgRetention(prices).drop("ticks", 30, chunks_max=10) == []


async def test_a_chunk_goes_only_when_its_newest_row_is_old_enough(prices: AsyncEngine) -> None:
    await put(prices, "ticks", OLD, LATE)
    assert await PgRetention(prices).drop("ticks", 30, chunks_max=10) == []
    assert await left(prices, "ticks") == [0, 1]
    assert len(await PgRetention(prices).drop("ticks", 1, chunks_max=10)) == 1
    assert await left(prices, "ticks") == []


async def test_a_round_is_bounded_and_the_oldest_go_first(prices: AsyncEngine) -> None:
    await put(prices, "ticks", *((f"{days} days", f"{days} days") for days in (50, 90, 70)))
    assert len(await PgRetention(prices).drop("ticks", 30, chunks_max=2)) == 2
    assert await left(prices, "ticks") == [0]


async def test_minutes_are_kept_for_longer_and_other_tables_for_good(prices: AsyncEngine) -> None:
    await put(prices, "ticks", OLD)
    await put(prices, "bars_1m", OLD, ("800 days", "800 days"))
    before = REGISTRY.get_sample_value("xgw_chunks_dropped_total", {"table": "bars_1m"}) or 0.0
    await Retention(PgRetention(prices), {"ticks": 30, "bars_1m": 730}, compress=True).round()
    assert (await left(prices, "ticks"), await left(prices, "bars_1m")) == ([], [0])
    assert REGISTRY.get_sample_value("xgw_chunks_dropped_total", {"table": "bars_1m"}) == before + 1


async def test_a_chunk_in_use_waits_for_the_next_round(prices: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("price_service.rollups.retention_pg.LOCK_WAIT", "50ms")
    await put(prices, "ticks", OLD)
    async with driver(prices) as writer:
        await writer.execute("UPDATE ticks SET size = 1")
        assert await PgRetention(prices).drop("ticks", 30, chunks_max=10) == []
    assert len(await PgRetention(prices).drop("ticks", 30, chunks_max=10)) == 1


async def test_a_server_that_refuses_to_compress_is_left_as_it_is(
    prices: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Apache edition, taken for the other one."""
    monkeypatch.setattr("price_service.rollups.editions.COMMUNITY", "apache")
    assert await PgRetention(prices).compress(allowed=True) is False
    assert await PgRetention(prices).compress(allowed=False) is False


async def test_the_edition_of_debian_s_package_compresses_nothing(prices: AsyncEngine) -> None:
    async with driver(prices) as connection:
        cursor = await connection.execute("SHOW timescaledb.license")
        assert await cursor.fetchone() == ("apache",)
    assert await PgRetention(prices).compress(allowed=True) is False
