"""Hours and days on the real server: whatever the order of ticks, roll-ups and workers, they are what trades make."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import PRICES, Tick, Trade
from infra.db import driver, engine
from price_service.domain.bars import MINUTE_NS
from price_service.domain.conditions import ODD_LOT, sets_prices
from price_service.domain.days import Day, DayKey
from price_service.ingest.ticks_pg import PgTicks
from price_service.rollups import rollups_pg
from price_service.rollups.rollups_pg import PgRollups
from price_service.store.records import Move
from tests.unit.price_service.made import batch, trade

pytestmark = pytest.mark.real

NEW_YORK = ZoneInfo("America/New_York")
# Clocks go forward in New York on the second of these days, which has 23 hours.
START_NS = round(datetime(2024, 3, 9, 12, tzinfo=UTC).timestamp()) * NS_PER_S
HOUR_NS = 60 * MINUTE_NS
Row = tuple[Any, ...]


@dataclass
class Prices:
    """A store that takes trades of partition 0 as the ingest does, and the trades it took."""

    source: AsyncEngine
    next_offset: int = 0
    taken: list[Trade] = field(default_factory=list)
    days: dict[DayKey, Day] = field(default_factory=dict)

    async def take(self, trades: Iterable[Trade]) -> None:
        ticks: list[Tick] = list(trades)
        following = self.next_offset + len(ticks)
        await PgTicks(self.source).save(batch(ticks, [Move(0, self.next_offset, following)], self.days))
        self.next_offset = following
        self.taken += [tick for tick in ticks if isinstance(tick, Trade)]

    async def mark(self, trades: Iterable[Trade], partition: int = 0) -> None:
        hours = {(partition, one.s, moment(one.t - one.t % HOUR_NS)) for one in trades}
        async with driver(self.source) as connection:
            async with connection.cursor() as cursor:
                await cursor.executemany("INSERT INTO bars_dirty VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", hours)
            await connection.commit()

    async def rows(self, statement: str) -> list[Row]:
        async with driver(self.source) as connection:
            cursor = await connection.execute(statement.encode())
            return [tuple(row) for row in await cursor.fetchall()]

    async def rolled(self, table: str) -> list[Row]:
        return await self.rows(
            "SELECT symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades,"
            f" notional_micros::bigint FROM {table} ORDER BY symbol, bucket"
        )

    async def dirty(self) -> int:
        return int((await self.rows("SELECT count(*) FROM bars_dirty"))[0][0])

    async def is_exact(self) -> bool:
        return (await self.rolled("bars_1h"), await self.rolled("bars_1d")) == (
            summed(self.taken, hour_of),
            summed(self.taken, day_of),
        )


@pytest.fixture
async def prices(prices_db: str) -> AsyncIterator[Prices]:
    source = engine(prices_db, "test")
    await PgTicks(source).adopt([0])
    yield Prices(source)
    await source.dispose()


def moment(time_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)


def hour_of(time_ns: int) -> datetime:
    return moment(time_ns - time_ns % HOUR_NS)


def day_of(time_ns: int) -> datetime:
    return moment(time_ns).astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def summed(trades: Iterable[Trade], start: Any) -> list[Row]:
    """From the trades themselves, not from minutes."""
    found: dict[tuple[str, datetime], list[Trade]] = {}
    for one in sorted(trades, key=lambda each: (each.t, each.d, each.q)):
        found.setdefault((one.s, start(one.t)), []).append(one)
    rows: list[Row] = []
    for (symbol, bucket), each in sorted(found.items()):
        set_by = [one.p for one in each if sets_prices(one.c)]
        prices = (set_by[0], max(set_by), min(set_by), set_by[-1]) if set_by else (None,) * 4
        rows.append((symbol, bucket, *prices, sum(t.z for t in each), len(each), sum(t.p * t.z for t in each)))
    return rows


def some_trades(count: int, hours: int, symbols: str = "AB") -> list[Trade]:
    made = random.Random(7)
    return [
        trade(
            q + 1,
            micros=made.randrange(1, 10**9),
            size=made.randrange(1, 500),
            cond=made.choice((1, 1, 1, ODD_LOT)),
            at_ns=START_NS + made.randrange(hours * HOUR_NS),
            symbol=made.choice(symbols),
        )
        for q in range(count)
    ]


async def test_hours_and_days_are_exact_whatever_comes_when(prices: Prices) -> None:
    trades = some_trades(600, hours=60)
    workers = [PgRollups(prices.source, hours_max=7), PgRollups(prices.source)]
    for at in range(0, 600, 100):
        await prices.take(trades[at : at + 60])
        # While two workers roll up, more comes in.
        await asyncio.gather(prices.take(trades[at + 60 : at + 100]), *(worker.roll([0]) for worker in workers))
    await workers[0].roll([0])
    assert await prices.dirty() == 0
    assert await prices.is_exact()
    days = await prices.rows("SELECT count(DISTINCT date_trunc('day', bucket, 'America/New_York')) FROM bars_1h")
    assert days == [(3,)]


async def test_a_late_tick_corrects_its_hour_and_its_day(prices: Prices) -> None:
    rollups = PgRollups(prices.source)
    await prices.take([trade(2, micros=50, at_ns=START_NS + 9), trade(3, micros=60, at_ns=START_NS + 5 * HOUR_NS)])
    assert await rollups.roll([0]) == 2
    await prices.take([trade(1, micros=40, at_ns=START_NS + 1), trade(4, micros=70, at_ns=START_NS + HOUR_NS - 1)])
    assert await rollups.roll([0]) == 1
    hours, days = await prices.rolled("bars_1h"), await prices.rolled("bars_1d")
    assert [row[2:6] for row in hours] == [(40, 70, 40, 70), (60, 60, 60, 60)]
    assert [row[2:6] for row in days] == [(40, 70, 40, 60)]
    assert await prices.is_exact()


async def test_doing_it_again_changes_nothing(prices: Prices) -> None:
    await prices.take(some_trades(50, hours=30))
    rollups = PgRollups(prices.source, hours_max=3)
    marked = await prices.dirty()
    assert await rollups.roll([0]) == marked
    before = (await prices.rolled("bars_1h"), await prices.rolled("bars_1d"))
    await prices.mark(prices.taken)
    assert await rollups.roll([0]) == marked
    assert (await prices.rolled("bars_1h"), await prices.rolled("bars_1d")) == before
    assert await rollups.roll([0]) == 0


async def test_what_belongs_to_another_worker_is_left(prices: Prices) -> None:
    await prices.take([trade(1, at_ns=START_NS)])
    await prices.mark([trade(1, at_ns=START_NS, symbol="OTHER")], partition=5)
    rollups = PgRollups(prices.source)
    assert sorted(await rollups.dirty()) == [0, 5]
    assert await rollups.roll([0]) == 1
    assert sorted(await rollups.dirty()) == [5]
    assert await rollups.roll([5]) == 1
    assert [row[0] for row in await prices.rolled("bars_1h")] == ["AAPL"]


async def _rolled_beside_an_unfinished_ingest(prices: Prices) -> bool:
    """Whether hours are exact when a roll-up was asked for between an ingest's writing and its commit."""
    await prices.take([trade(1, at_ns=START_NS)])
    late = trade(2, at_ns=START_NS + 5)
    rollups = PgRollups(prices.source)
    async with driver(prices.source) as ingest:
        await ingest.execute(
            "UPDATE partition_offsets SET next_offset = next_offset + 1 WHERE topic = %s AND partition = 0", (PRICES,)
        )
        await ingest.execute("INSERT INTO bars_dirty VALUES (0, 'AAPL', %s) ON CONFLICT DO NOTHING", (hour_of(late.t),))
        await ingest.execute(
            "UPDATE bars_1m SET volume = volume + 100, trades = 2, notional_micros = notional_micros + %s",
            (late.p * late.z,),
        )
        rolling = asyncio.ensure_future(rollups.roll([0]))
        # Until it waits for the lock, or is done because it does not.
        async with asyncio.timeout(10):
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            while not rolling.done() and await prices.rows(waits) == [(0,)]:
                await asyncio.wait({rolling}, timeout=0.01)
        await ingest.commit()
        await rolling
    prices.taken.append(late)
    await rollups.roll([0])
    return await prices.is_exact()


async def test_it_waits_for_an_ingest_that_has_not_committed(prices: Prices) -> None:
    assert await _rolled_beside_an_unfinished_ingest(prices)


async def test_control_without_the_partitions_lock_a_mark_is_lost(
    prices: Prices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups_pg, "_LOCK", rollups_pg._LOCK.removesuffix(" FOR UPDATE"))
    assert not await _rolled_beside_an_unfinished_ingest(prices)


async def test_cut_off_anywhere_nothing_is_lost(prices: Prices) -> None:
    """As when a worker dies, or gives a partition up, in the middle of a roll-up."""
    trades, chance = some_trades(300, hours=30), random.Random(3)
    cut = 0
    for at in range(0, 300, 20):
        await prices.take(trades[at : at + 20])
        rolling = asyncio.ensure_future(PgRollups(prices.source, hours_max=4).roll([0]))
        await asyncio.wait({rolling}, timeout=chance.random() * 0.03)
        cut += rolling.cancel()
        await asyncio.wait({rolling})
    await PgRollups(prices.source).roll([0])
    assert cut
    assert await prices.dirty() == 0
    assert await prices.is_exact()


async def test_a_roll_up_that_fails_leaves_everything_marked(prices: Prices, monkeypatch: pytest.MonkeyPatch) -> None:
    await prices.take(some_trades(20, hours=3))
    marked = await prices.dirty()
    with monkeypatch.context() as broken:
        broken.setattr(rollups_pg, "_DAYS", "SELECT 1 / 0, %(symbols)s, %(starts)s, %(first)s, %(last)s")
        with pytest.raises(psycopg.Error):
            await PgRollups(prices.source).roll([0])
    assert (await prices.dirty(), await prices.rolled("bars_1h")) == (marked, [])
    await PgRollups(prices.source).roll([0])
    assert await prices.is_exact()


async def test_hours_whose_minutes_are_gone_are_not_made_smaller(prices: Prices) -> None:
    await prices.take([trade(1, at_ns=START_NS), trade(2, at_ns=START_NS + MINUTE_NS)])
    rollups = PgRollups(prices.source)
    await rollups.roll([0])
    before = (await prices.rolled("bars_1h"), await prices.rolled("bars_1d"))
    async with driver(prices.source) as connection:
        await connection.execute("DELETE FROM bars_1m")
        await connection.commit()
    await prices.take([trade(3, at_ns=START_NS + 7)])
    await rollups.roll([0])
    assert (await prices.rolled("bars_1h"), await prices.rolled("bars_1d")) == before


async def test_only_the_chunks_of_the_marked_hours_are_read(prices: Prices, monkeypatch: pytest.MonkeyPatch) -> None:
    await prices.take([trade(week + 1, at_ns=START_NS + week * 7 * 24 * HOUR_NS) for week in range(6)])
    await PgRollups(prices.source).roll([0])
    await prices.mark([trade(9, at_ns=START_NS)])
    plans: list[str] = []
    aggregate = rollups_pg._aggregate

    async def explained(connection: Any, statement: str, places: Any) -> None:
        cursor_of = connection.execute

        async def execute(text: bytes, parameters: Any, *, prepare: bool) -> Any:
            found = await cursor_of(b"EXPLAIN " + text, parameters, prepare=prepare)
            plans.append("\n".join(str(line) for (line,) in await found.fetchall()))

        with monkeypatch.context() as swapped:
            swapped.setattr(connection, "execute", execute)
            await aggregate(connection, statement, places)

    monkeypatch.setattr(rollups_pg, "_aggregate", explained)
    await PgRollups(prices.source).roll([0])
    minutes = plans[0]
    assert len({word for word in minutes.split() if "_chunk" in word and "hyper_" in word and word[0] != '"'}) == 1
