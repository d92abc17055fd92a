"""Made-up history on the real server: once, only where there is none, and such as a roll-up would make it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import Instrument
from infra.db import driver, engine
from infra.process import background
from price_service.ingest.ticks_pg import PgTicks
from price_service.rollups.rollups_pg import PgRollups
from price_service.seed.history import MadeUp
from price_service.seed.seed import Seeding, history_before
from price_service.seed.seed_pg import PgSeed
from price_service.store.records import Move
from tests.unit.price_service.made import batch, trade

pytestmark = pytest.mark.real

# A Saturday; the last close in New York was at 21:00 UTC the day before.
SESSION = round(datetime(2023, 11, 18, 12, 0, 30, tzinfo=UTC).timestamp())
BEGIN_NS = SESSION * NS_PER_S
AAPL = Instrument("AAPL", "Apple Inc.", 10_000, 1, SESSION, 189_690_000)
BARS = "symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades, notional_micros"


@pytest.fixture
async def prices(prices_db: str) -> AsyncIterator[AsyncEngine]:
    source = engine(prices_db, "test")
    yield source
    await source.dispose()


@pytest.fixture(scope="module")
def made() -> MadeUp:
    found = history_before(AAPL, BEGIN_NS)
    assert found is not None
    return found


async def rows(prices: AsyncEngine, statement: str) -> list[tuple[Any, ...]]:
    async with driver(prices) as connection:
        cursor = await connection.execute(statement.encode())
        found = [tuple(row) for row in await cursor.fetchall()] if cursor.description else []
        await connection.commit()
        return found


async def counts(prices: AsyncEngine) -> tuple[int, ...]:
    tables = ("bars_1m", "bars_1h", "bars_1d", "seeded")
    return tuple([int((await rows(prices, f"SELECT count(*) FROM {table}"))[0][0]) for table in tables])


async def trade_at(prices: AsyncEngine, at_ns: int, partition: int = 0) -> None:
    await PgTicks(prices).adopt([partition])
    await PgTicks(prices).save(batch([trade(1, at_ns=at_ns)], [Move(partition, 0, 1)], partition=partition))


async def test_bars_lead_to_the_previous_close_and_equal_a_roll_up(prices: AsyncEngine, made: MadeUp) -> None:
    assert await PgSeed(prices).save(made, BEGIN_NS)
    assert await counts(prices) == (30 * 390, 30 * 7, 504, 1)
    newest = await rows(prices, "SELECT bucket, close_micros FROM bars_1m ORDER BY bucket DESC LIMIT 1")
    assert newest == [(datetime(2023, 11, 17, 20, 59, tzinfo=UTC), AAPL.previous_close_micros)]
    last_day = await rows(prices, "SELECT bucket, close_micros FROM bars_1d ORDER BY bucket DESC LIMIT 1")
    assert last_day == [(datetime(2023, 11, 17, 5, tzinfo=UTC), AAPL.previous_close_micros)]
    assert await rows(prices, "SELECT until FROM seeded") == [(datetime(2023, 11, 17, 21, tzinfo=UTC),)]

    before = [await rows(prices, f"SELECT {BARS} FROM {table} ORDER BY bucket") for table in ("bars_1h", "bars_1d")]
    await rows(prices, "INSERT INTO bars_dirty SELECT 3, symbol, bucket FROM bars_1h")
    assert await PgRollups(prices).roll([3]) == 30 * 7
    after = [await rows(prices, f"SELECT {BARS} FROM {table} ORDER BY bucket") for table in ("bars_1h", "bars_1d")]
    assert after == before


async def test_never_twice_also_not_by_two_at_once(prices: AsyncEngine, made: MadeUp) -> None:
    outcomes = await asyncio.gather(*(PgSeed(prices).save(made, BEGIN_NS) for _ in range(3)))
    assert sorted(outcomes) == [False, False, True]
    assert await counts(prices) == (30 * 390, 30 * 7, 504, 1)
    assert await PgSeed(prices).unseeded() == []


async def test_never_for_a_symbol_that_has_bars_from_before(prices: AsyncEngine, made: MadeUp) -> None:
    await trade_at(prices, BEGIN_NS - 86_400 * NS_PER_S)
    assert not await PgSeed(prices).save(made, BEGIN_NS)
    assert (await counts(prices))[2:] == (0, 0)


async def test_the_first_minutes_of_its_first_session_are_no_history(prices: AsyncEngine, made: MadeUp) -> None:
    await trade_at(prices, BEGIN_NS + 1)
    assert await PgSeed(prices).save(made, BEGIN_NS)
    assert (await counts(prices))[0] == 30 * 390 + 1


async def test_a_real_bar_in_the_way_leaves_nothing_behind(prices: AsyncEngine, made: MadeUp) -> None:
    await trade_at(prices, made.until_ns - 1)
    # Asked with an earlier `before` than the bar, as when it is committed after the look.
    assert not await PgSeed(prices).save(made, made.until_ns - 10 * 3600 * NS_PER_S)
    assert await counts(prices) == (1, 0, 0, 0)


async def test_an_evening_session_goes_on_with_the_day(prices: AsyncEngine, made: MadeUp) -> None:
    evening = made.until_ns + 2 * 3600 * NS_PER_S
    await trade_at(prices, evening + 1)
    mark = "INSERT INTO bars_dirty VALUES (0, 'AAPL', '2023-11-17 23:00+00') ON CONFLICT DO NOTHING"
    await rows(prices, mark)
    rollups = PgRollups(prices)
    await rollups.roll([0])
    assert await PgSeed(prices).save(made, evening)
    friday = "SELECT open_micros, close_micros, volume FROM bars_1d ORDER BY bucket DESC LIMIT 1"
    expected = [(made.days[-1].open, 100_000_000, made.days[-1].volume + 100)]
    assert await rows(prices, friday) == expected
    await rows(prices, mark)
    await rollups.roll([0])
    assert await rows(prices, friday) == expected


async def test_the_part_seeds_what_is_listed(prices: AsyncEngine) -> None:
    odd = Instrument("A\\\tB", "Odd", 10_000, 1, SESSION, 5_000_000)
    unknown = Instrument("NEW", "No close yet", 10_000, 1, SESSION, 0)
    await PgTicks(prices).keep([AAPL, odd, unknown])
    async with background(Seeding(PgSeed(prices)).run), asyncio.timeout(30):
        while (await counts(prices))[3] < 2:
            pass
    for table in ("seeded", "bars_1m", "bars_1h", "bars_1d"):
        assert set(await rows(prices, f"SELECT DISTINCT symbol FROM {table}")) == {(odd.symbol,), (AAPL.symbol,)}
    assert [i.symbol for i in await PgSeed(prices).unseeded()] == ["NEW"]
