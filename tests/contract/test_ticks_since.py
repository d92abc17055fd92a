"""Ticks that were stored, read again by sequence number: the twin in memory and PostgreSQL pass the same tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import NS_PER_S
from infra.contracts import Tick
from infra.db import driver, engine
from price_service.ingest.ports import TickStore
from price_service.ingest.ticks_pg import PgTicks
from price_service.live.ticks_since import PAGE, MemoryTicksSince, Stored, TicksSince
from price_service.live.ticks_since_pg import PAGE_SQL, PgTicksSince, bounds_of
from price_service.store.memory import MemoryPrices
from price_service.store.records import Move, Received, StoreAway
from tests.unit.price_service.made import RECEIVED_MS, SESSION, T0, batch, quote, trade

LATER = SESSION + 86_400


@dataclass(frozen=True)
class Store:
    ticks: TickStore
    since: TicksSince

    async def save(self, ticks: Iterable[Tick]) -> None:
        offset = (await self.ticks.adopt([0])).offsets[0]
        await self.ticks.save(batch(ticks, [Move(0, offset, offset + 1)]))

    async def read(self, symbol: str, session: int, after_q: int) -> list[Received]:
        return [received async for page in self.since.pages(symbol, session, after_q) for received in page]


def numbers(found: Iterable[Received]) -> list[int]:
    return [received.tick.q for received in found]


class TicksSinceContract:
    async def test_what_was_stored_comes_back_exactly(self, store: Store) -> None:
        ticks: list[Tick] = [
            trade(1, micros=580_250_001, size=3, cond=0x8000_0000, at_ns=T0 + 123_456_789),
            quote(2, bid=0, ask=100_000_000, at_ns=T0 + 123_456_999),
            trade(3, at_ns=T0 + 123_457_000),
        ]
        await store.save([*ticks, trade(4, symbol="MSFT"), trade(1, session=LATER)])
        found = await store.read("AAPL", SESSION, 0)
        assert found == [Received(tick, RECEIVED_MS) for tick in ticks]
        assert numbers(await store.read("AAPL", SESSION, 2)) == [3]
        assert await store.read("AAPL", SESSION, 3) == []
        assert await store.read("NOPE", SESSION, 0) == await store.read("AAPL", SESSION - 1, 0) == []

    async def test_sessions_from_one_on_the_newest_of_them(self, store: Store) -> None:
        for session, newest in ((SESSION, 5), (LATER, 2), (LATER + 1, 9)):
            await store.save([trade(newest, session=session), quote(1, symbol="MSFT", session=session)])
        all_of_them = [Stored(SESSION, 5), Stored(LATER, 2), Stored(LATER + 1, 9)]
        assert await store.since.sessions("AAPL", 0, 10) == all_of_them
        assert await store.since.sessions("AAPL", LATER, 10) == all_of_them[1:]
        assert await store.since.sessions("AAPL", 0, 2) == all_of_them[1:]
        assert await store.since.sessions("AAPL", LATER + 2, 10) == []
        assert await store.since.sessions("NOPE", 0, 10) == []

    async def test_many_pages_each_tick_once_wherever_one_begins(self, store: Store) -> None:
        """Minutes apart, some at the same microsecond, some a little out of the order of their numbers."""
        count, last = PAGE * 2 + 7, PAGE * 2
        at = [T0 + q // 8 * 700_000_000 + (q % 3) * 300 for q in range(count + 1)]
        ticks: list[Tick] = [
            trade(q, at_ns=at[q]) if q % 5 == 0 else quote(q, at_ns=at[q]) for q in range(1, count + 1)
        ]
        await store.save(ticks)
        for after in (0, 1, 8, PAGE, last, count):
            found = numbers(await store.read("AAPL", SESSION, after))
            assert sorted(found) == list(range(after + 1, count + 1))

    async def test_a_late_tick_within_the_margin_is_found(self, store: Store) -> None:
        """Its time is well before that of the ticks around it, and the bar that bounds the read is of later time."""
        minute = 60 * NS_PER_S
        await store.save([trade(q, at_ns=T0 + q * minute) for q in range(1, 6)])
        await store.save([trade(6, at_ns=T0 + 5 * minute - 20 * NS_PER_S)])
        assert numbers(await store.read("AAPL", SESSION, 5)) == [6]

    async def test_times_of_a_recorded_day_are_found_too(self, store: Store) -> None:
        """The venue's clock is years before the session's number."""
        years_ago = T0 - 10 * 365 * 86_400 * NS_PER_S
        await store.save(
            [quote(1, at_ns=years_ago), trade(2, at_ns=years_ago + 1000), quote(3, at_ns=years_ago + 2000)]
        )
        assert numbers(await store.read("AAPL", SESSION, 0)) == [1, 2, 3]
        assert numbers(await store.read("AAPL", SESSION, 2)) == [3]


class TestMemory(TicksSinceContract):
    @pytest.fixture
    def store(self) -> Store:
        prices = MemoryPrices()
        return Store(prices, MemoryTicksSince(prices))


@pytest.mark.real
class TestPostgres(TicksSinceContract):
    @pytest.fixture
    async def source(self, prices_db: str) -> AsyncIterator[AsyncEngine]:
        source = engine(prices_db, "test", connections_max=2)
        yield source
        await source.dispose()

    @pytest.fixture
    def store(self, source: AsyncEngine) -> Store:
        return Store(PgTicks(source), PgTicksSince(source))

    async def test_a_page_looks_at_no_hours_but_those_between_its_bounds(
        self, store: Store, source: AsyncEngine
    ) -> None:
        hours = 3600 * NS_PER_S
        await store.save([trade(q, at_ns=T0 + q * 3 * hours) for q in range(1, 9)])
        async with driver(source) as connection:
            bounds = await bounds_of(connection, "AAPL", SESSION, 7)
            assert bounds is not None
            asked = {"symbol": "AAPL", "session": SESSION, "after": 7, "max": PAGE, "from_q": -1}
            plan = await connection.execute("EXPLAIN " + PAGE_SQL, asked | {"from": bounds[0], "to": bounds[1]})
            lines = " ".join(str(row[0]) for row in await plan.fetchall())
            cursor = await connection.execute("SELECT count(*) FROM show_chunks('ticks')")
            (chunks,) = await cursor.fetchone() or (0,)
        touched = set(re.findall(r"_hyper_\d+_\d+_chunk\b", lines))
        assert int(str(chunks)) == 8
        assert 1 <= len(touched) <= 3


async def test_a_server_that_is_away_is_named_so(unused_tcp_port: int) -> None:
    source = engine(f"postgresql://x:x@127.0.0.1:{unused_tcp_port}/x", "test", connections_max=1)
    since = PgTicksSince(source)
    with pytest.raises(StoreAway):
        await since.sessions("AAPL", 0, 1)
    with pytest.raises(StoreAway):
        await anext(since.pages("AAPL", 0, 0))
    await source.dispose()
