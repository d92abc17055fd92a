"""The price store: the twin in memory and PostgreSQL pass the same tests."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import Instrument, Tick, Trade
from infra.db import driver, engine
from price_service.domain.bars import MINUTE_NS
from price_service.domain.conditions import FORM_T, ODD_LOT
from price_service.domain.days import Day, DayKey
from price_service.domain.points import Window
from price_service.history.history_pg import PgHistory
from price_service.history.ports import HistoryStore
from price_service.history.ranges import ZONE
from price_service.ingest.ports import TickStore
from price_service.ingest.ticks_pg import PgTicks
from price_service.live.ports import Snapshots
from price_service.store.days_pg import PgSnapshots
from price_service.store.memory import MemoryPrices
from price_service.store.records import Conflict, Move, StoreAway
from tests.unit.price_service.made import SESSION, T0, batch, quote, trade

MINUTE = T0 - T0 % MINUTE_NS
ALWAYS = Window(0, 2 * T0, MINUTE_NS)


@dataclass(frozen=True)
class Store:
    """One store through the three ports of its users, and a look at its ticks."""

    ticks: TickStore
    history: HistoryStore
    live: Snapshots
    source: AsyncEngine | MemoryPrices

    async def stored(self) -> list[tuple[Any, ...]]:
        """(symbol, session, q, time, kind, price or bid, size or bid size, conditions or ask, code or ask size)."""
        if isinstance(self.source, MemoryPrices):
            return sorted(_flat(tick) for tick, _, _ in self.source.ticks)
        async with driver(self.source) as connection:
            cursor = await connection.execute(
                "SELECT symbol, session, q, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + ns, kind::text,"
                " coalesce(price_micros, bid_micros), coalesce(size, bid_size),"
                " CASE kind WHEN 'T' THEN cond ELSE ask_micros END,"
                " CASE kind WHEN 'T' THEN exch ELSE ask_size::text END FROM ticks ORDER BY symbol, session, q"
            )
            return [tuple(row) for row in await cursor.fetchall()]


def _flat(tick: Tick) -> tuple[Any, ...]:
    if isinstance(tick, Trade):
        return (tick.s, tick.d, tick.q, tick.t, "T", tick.p, tick.z, tick.c, tick.x)
    return (tick.s, tick.d, tick.q, tick.t, "Q", tick.b, tick.bz, tick.a, str(tick.az))


class PriceStoreContract:
    async def test_a_new_partition_stands_at_zero_and_an_adopted_one_where_it_was(self, store: Store) -> None:
        first = await store.ticks.adopt([0, 3])
        assert first.offsets == {0: 0, 3: 0}
        assert first.days == []
        await store.ticks.save(batch([trade(1)], [Move(3, 0, 7)], partition=3))
        again = await store.ticks.adopt([0, 3])
        assert again.offsets == {0: 0, 3: 7}
        assert [day.key for day in again.days] == [DayKey("AAPL", SESSION)]
        assert (await store.ticks.adopt([0])).days == []

    async def test_ticks_are_kept_exactly(self, store: Store) -> None:
        await store.ticks.adopt([0])
        odd: list[Tick] = [
            trade(1, micros=580_250_001, size=1, cond=ODD_LOT | FORM_T, at_ns=T0 + 123_456_789),
            quote(2, bid=0, ask=0, size=0, at_ns=T0 + 999),
            quote(3, bid=101_000_000, ask=100_000_000),
            Trade("BRK.B", SESSION, 1, T0, 1, 10**11, 0, ""),
        ]
        await store.ticks.save(batch(odd, [Move(0, 0, 4)]))
        assert await store.stored() == sorted(_flat(tick) for tick in odd)

    async def test_a_batch_from_a_stale_offset_changes_nothing(self, store: Store) -> None:
        await store.ticks.adopt([0, 1])
        await store.ticks.save(batch([trade(1)], [Move(0, 0, 1)]))
        before = (await store.stored(), await store.live.snapshot(), await store.history.points("AAPL", ALWAYS, 10))
        with pytest.raises(Conflict):
            await store.ticks.save(batch([trade(2)], [Move(0, 0, 2), Move(1, 0, 1)]))
        after = (await store.stored(), await store.live.snapshot(), await store.history.points("AAPL", ALWAYS, 10))
        assert after == before

    async def test_of_two_workers_at_the_same_offset_one_wins(self, store: Store) -> None:
        await store.ticks.adopt([0])
        tries = [store.ticks.save(batch([trade(1)], [Move(0, 0, 1)])) for _ in range(4)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 3 + ["NoneType"]
        assert len(await store.stored()) == 1

    async def test_a_day_comes_back_as_it_was_saved(self, store: Store) -> None:
        await store.ticks.adopt([0])
        days: dict[DayKey, Day] = {}
        ticks: list[Tick] = [trade(1), quote(2), trade(5, micros=7), quote(9), trade(1, symbol="ZZZ"), trade(1)]
        await store.ticks.save(batch(ticks, [Move(0, 0, 6)], days))
        saved = copy.deepcopy(days[DayKey("AAPL", SESSION)])
        assert saved.seen.above == [(5, 5), (9, 9)]
        found = await store.ticks.days([DayKey("AAPL", SESSION), DayKey("AAPL", 1), DayKey("NONE", SESSION)])
        assert found == [saved]

    async def test_only_the_latest_session_is_adopted_but_older_ones_can_be_asked_for(self, store: Store) -> None:
        await store.ticks.adopt([0])
        await store.ticks.save(batch([trade(1), trade(1, session=SESSION + 9), trade(2)], [Move(0, 0, 3)]))
        assert [d.session for d in (await store.ticks.adopt([0])).days] == [SESSION + 9]
        assert [d.session for d in (await store.live.snapshot()).days] == [SESSION + 9]
        old = await store.ticks.days([DayKey("AAPL", SESSION)])
        assert [d.seen.contiguous for d in old] == [2]

    async def test_a_snapshot_holds_all_partitions(self, store: Store) -> None:
        assert await store.live.snapshot() == ({}, [])
        await store.ticks.adopt([0, 1])
        await store.ticks.save(batch([trade(1)], [Move(0, 0, 5)]))
        await store.ticks.save(batch([trade(1, symbol="SPY")], [Move(1, 0, 8)], partition=1))
        offsets, days = await store.live.snapshot()
        assert offsets == {0: 5, 1: 8}
        assert sorted(day.symbol for day in days) == ["AAPL", "SPY"]

    async def test_bars_merge_whatever_the_order(self, store: Store) -> None:
        await store.ticks.adopt([0])
        first, last = trade(3, micros=11_000_000, at_ns=MINUTE), trade(9, micros=14_000_000, at_ns=MINUTE + 50)
        middle = [trade(5, micros=9_000_000, at_ns=MINUTE + 7), trade(6, micros=15_000_000, at_ns=MINUTE + 8)]
        silent = trade(7, micros=99_000_000, size=3, cond=FORM_T, at_ns=MINUTE + 1)
        days: dict[DayKey, Day] = {}
        for i, ticks in enumerate([[silent], middle, [last], [first]]):
            await store.ticks.save(batch(ticks, [Move(0, i, i + 1)], days))
        (point,) = await store.history.points("AAPL", ALWAYS, 10)
        assert point.time_ns == MINUTE
        assert (point.open, point.high, point.low, point.close) == (11_000_000, 15_000_000, 9_000_000, 14_000_000)
        assert (point.volume, point.trades) == (403, 5)
        assert point.notional_micros == (11 + 9 + 15 + 14) * 100_000_000 + 297_000_000

    async def test_a_minute_of_odd_lots_alone_has_volume_but_no_prices(self, store: Store) -> None:
        await store.ticks.adopt([0])
        await store.ticks.save(batch([trade(1, size=5, cond=ODD_LOT)], [Move(0, 0, 1)]))
        (point,) = await store.history.points("AAPL", ALWAYS, 10)
        assert (point.open, point.high, point.low, point.close, point.volume) == (None, None, None, None, 5)
        assert point.vwap_micros == 100_000_000

    async def test_longer_points_are_rolled_up_and_the_newest_are_kept(self, store: Store) -> None:
        await store.ticks.adopt([0])
        start = T0 - T0 % (3600 * NS_PER_S)
        ticks = [trade(i + 1, micros=(i + 1) * 10_000, at_ns=start + i * MINUTE_NS) for i in range(12)]
        ticks[5] = trade(6, micros=5, cond=FORM_T, at_ns=start + 5 * MINUTE_NS)
        await store.ticks.save(batch(ticks, [Move(0, 0, 12)]))
        window = Window(start, start + 11 * MINUTE_NS, 5 * MINUTE_NS)
        points = await store.history.points("AAPL", window, 10)
        assert [p.time_ns for p in points] == [start, start + 5 * MINUTE_NS, start + 10 * MINUTE_NS]
        assert [(p.open, p.high, p.low, p.close) for p in points] == [
            (10_000, 50_000, 10_000, 50_000),
            (70_000, 100_000, 70_000, 100_000),
            (110_000, 110_000, 110_000, 110_000),
        ]
        assert [p.volume for p in points] == [500, 500, 100]
        assert [p.time_ns for p in await store.history.points("AAPL", window, 2)] == [p.time_ns for p in points[1:]]
        assert await store.history.points("SPY", window, 10) == []

    async def test_a_day_is_a_new_york_day(self, store: Store) -> None:
        await store.ticks.adopt([0])
        # 2024-01-10 05:00 UTC is midnight in New York; the late session of the 9th ends at 01:00 UTC of the 10th.
        midnight = 1_704_862_800 * NS_PER_S
        times = [midnight - 4 * 3600 * NS_PER_S, midnight, midnight + 20 * 3600 * NS_PER_S]
        await store.ticks.save(batch([trade(i + 1, at_ns=t) for i, t in enumerate(times)], [Move(0, 0, 3)]))
        window = Window(0, 2 * T0, 86_400 * NS_PER_S, ZONE)
        points = await store.history.points("AAPL", window, 10)
        assert [(p.time_ns, p.trades) for p in points] == [(midnight - 24 * 3600 * NS_PER_S, 1), (midnight, 2)]

    async def test_search_ranks_symbols_that_begin_so_before_names_that_contain_it(self, store: Store) -> None:
        names = {"AAPL": "Apple Inc.", "APP": "AppLovin", "SNAP": "Snap 50%_Off", "B": "Big Apple Bank"}
        await store.ticks.keep([Instrument(s, n, 10_000, 1, SESSION) for s, n in names.items()])
        assert [f.symbol for f in await store.history.search("ap", 20)] == ["APP", "AAPL", "B", "SNAP"]
        assert [f.symbol for f in await store.history.search("AP", 2)] == ["APP", "AAPL"]
        assert [f.symbol for f in await store.history.search("%_", 20)] == ["SNAP"]
        assert await store.history.search("\\", 20) == []
        assert await store.history.search("%", 20) == await store.history.search("50%", 20)

    async def test_an_earlier_sessions_listing_never_replaces_a_later_ones(self, store: Store) -> None:
        new, old = Instrument("X", "New", 10_000, 1, 2), Instrument("X", "Old", 10_000, 1, 1)
        await store.ticks.keep([new, old])
        await store.ticks.keep([old])
        assert [f.name for f in await store.history.search("X", 5)] == ["New"]

    async def test_a_symbol_is_known_when_listed_or_ticked(self, store: Store) -> None:
        await store.ticks.adopt([0])
        await store.ticks.keep([Instrument("LISTED", "Listed", 10_000, 1, SESSION)])
        await store.ticks.save(batch([trade(1, symbol="TICKED")], [Move(0, 0, 1)]))
        assert [await store.history.known(s) for s in ("LISTED", "TICKED", "NEITHER")] == [True, True, False]


class TestMemory(PriceStoreContract):
    @pytest.fixture
    async def store(self) -> Store:
        prices = MemoryPrices()
        return Store(prices, prices, prices, prices)


@pytest.mark.real
class TestPostgres(PriceStoreContract):
    @pytest.fixture
    async def store(self, prices_db: str) -> AsyncIterator[Store]:
        source = engine(prices_db, "test")
        yield Store(PgTicks(source), PgHistory(source), PgSnapshots(source), source)
        await source.dispose()

    async def test_the_tick_index_refuses_a_double(self, store: Store) -> None:
        await store.ticks.adopt([0])
        await store.ticks.save(batch([trade(1)], [Move(0, 0, 1)]))
        with pytest.raises(Exception, match="ticks_identity"):
            await store.ticks.save(batch([trade(1)], [Move(0, 1, 2)]))
        assert (await store.ticks.adopt([0])).offsets == {0: 1}


async def test_a_server_that_is_away_is_named_so(unused_tcp_port: int) -> None:
    source = engine(f"postgresql://xgw:xgw@127.0.0.1:{unused_tcp_port}/prices", "test")
    for asked in (PgTicks(source).adopt([0]), PgSnapshots(source).snapshot(), PgHistory(source).known("X")):
        with pytest.raises(StoreAway):
            await asked
    await source.dispose()
