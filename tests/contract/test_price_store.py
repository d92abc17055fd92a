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
from infra.contracts import PRICE_MICROS_MAX, SIZE_MAX, Instrument, Tick, Trade
from infra.db import driver, engine
from price_service.domain.bars import MINUTE_NS
from price_service.domain.conditions import FORM_T, ODD_LOT
from price_service.domain.days import Day, DayKey
from price_service.domain.points import Window
from price_service.history.history_pg import PgHistory
from price_service.history.ports import HistoryStore
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
            return sorted(_flat(tick) for tick, _ in self.source.ticks)
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

    async def test_a_late_tick_is_stored_and_corrects_its_bar(self, store: Store) -> None:
        """Older than all in event time, the newest in sequence: what a venue sends after a hiccup of its own."""
        await store.ticks.adopt([0])
        days: dict[DayKey, Day] = {}
        early = [
            trade(1, micros=10_000_000, at_ns=MINUTE + 5),
            trade(2, micros=12_000_000, at_ns=MINUTE + MINUTE_NS),
        ]
        await store.ticks.save(batch(early, [Move(0, 0, 2)], days))
        late = trade(3, micros=9_000_000, at_ns=MINUTE + 1)
        await store.ticks.save(batch([late], [Move(0, 2, 3)], days))
        assert [row[2:4] for row in await store.stored()] == [(1, MINUTE + 5), (2, MINUTE + MINUTE_NS), (3, MINUTE + 1)]
        points = await store.history.points("AAPL", ALWAYS, 10)
        assert [(p.open, p.low, p.close, p.trades) for p in points] == [
            (9_000_000, 9_000_000, 10_000_000, 2),
            (12_000_000, 12_000_000, 12_000_000, 1),
        ]

    async def test_a_minutes_money_may_be_longer_than_64_bits(self, store: Store) -> None:
        await store.ticks.adopt([0])
        huge = [trade(q, micros=PRICE_MICROS_MAX, size=SIZE_MAX, at_ns=MINUTE + q) for q in (1, 2, 3)]
        await store.ticks.save(batch(huge, [Move(0, 0, 3)]))
        (point,) = await store.history.points("AAPL", ALWAYS, 10)
        assert point.notional_micros == 3 * PRICE_MICROS_MAX * SIZE_MAX

    async def test_a_minute_of_odd_lots_alone_has_volume_but_no_prices(self, store: Store) -> None:
        await store.ticks.adopt([0])
        await store.ticks.save(batch([trade(1, size=5, cond=ODD_LOT)], [Move(0, 0, 1)]))
        (point,) = await store.history.points("AAPL", ALWAYS, 10)
        assert (point.open, point.high, point.low, point.close, point.volume) == (None, None, None, None, 5)
        assert point.vwap_micros == 100_000_000

    async def test_an_earlier_sessions_listing_never_replaces_a_later_ones(self, store: Store) -> None:
        new, old = Instrument("X", "New", 10_000, 1, 2), Instrument("X", "Old", 10_000, 1, 1)
        await store.ticks.keep([new, old])
        await store.ticks.keep([old])
        assert [f.name for f in await store.history.search("X", 5, 0)] == ["New"]


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

    async def test_a_changed_bar_marks_its_hour_and_when_it_changed(self, store: Store) -> None:
        assert isinstance(store.source, AsyncEngine)
        await store.ticks.adopt([4])
        ticks: list[Tick] = [
            trade(1, at_ns=MINUTE),
            trade(2, at_ns=MINUTE + 1),
            quote(3, at_ns=MINUTE + 7200 * NS_PER_S),
        ]
        ticks.append(trade(4, at_ns=MINUTE + 3600 * NS_PER_S))
        await store.ticks.save(batch(ticks, [Move(4, 0, 4)], partition=4))
        hour = MINUTE // (3600 * NS_PER_S) * 3600
        async with driver(store.source) as connection:
            marked = "SELECT partition, symbol, extract(epoch FROM hour)::bigint FROM bars_dirty ORDER BY hour"
            cursor = await connection.execute(marked)
            assert await cursor.fetchall() == [(4, "AAPL", hour), (4, "AAPL", hour + 3600)]
            await connection.execute("UPDATE bars_1m SET received_at = received_at - INTERVAL '1 day'")
            await connection.commit()
        await store.ticks.save(batch([trade(5, at_ns=MINUTE + 2)], [Move(4, 4, 5)], partition=4))
        async with driver(store.source) as connection:
            recent = "SELECT received_at > now() - INTERVAL '1 hour' FROM bars_1m ORDER BY bucket"
            assert await (await connection.execute(recent)).fetchall() == [(True,), (False,)]

    async def test_the_tick_index_refuses_a_double(self, store: Store) -> None:
        await store.ticks.adopt([0])
        await store.ticks.save(batch([trade(1)], [Move(0, 0, 1)]))
        with pytest.raises(Exception, match="ticks_identity"):
            await store.ticks.save(batch([trade(1)], [Move(0, 1, 2)]))
        assert (await store.ticks.adopt([0])).offsets == {0: 1}


async def test_a_server_that_is_away_is_named_so(unused_tcp_port: int) -> None:
    source = engine(f"postgresql://xgw:xgw@127.0.0.1:{unused_tcp_port}/prices", "test")
    for asked in (PgTicks(source).adopt([0]), PgSnapshots(source).snapshot(), PgHistory(source).about("X")):
        with pytest.raises(StoreAway):
            await asked
    await source.dispose()
