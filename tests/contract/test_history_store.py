"""The reading side of the price store: the twin in memory and PostgreSQL give the same answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import pytest

from infra.clock import NS_PER_S
from infra.contracts import Instrument, Tick
from infra.db import engine
from price_service.domain.bars import MINUTE_NS
from price_service.domain.conditions import FORM_T, ODD_LOT
from price_service.domain.days import Day, DayKey
from price_service.domain.points import About, Action, Point, Window
from price_service.history.actions_pg import PgActions
from price_service.history.history_pg import PgHistory
from price_service.history.moments import midnight_ns
from price_service.history.ports import ActionStore, HistoryStore
from price_service.history.ranges import INTERVALS, window_of
from price_service.ingest.ports import TickStore
from price_service.ingest.ticks_pg import PgTicks
from price_service.rollups.rollups_pg import PgRollups
from price_service.store.memory import MemoryPrices
from price_service.store.records import Move
from tests.unit.price_service.made import SESSION, T0, batch, quote, trade

HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
HOUR = T0 - T0 % HOUR_NS
MIDNIGHT = midnight_ns(date(2024, 1, 10))  # 05:00 UTC


@dataclass
class Store:
    """One store through the ports of its users. `roll` brings hours and days up to their minutes, where that is a step
    of its own."""

    ticks: TickStore
    history: HistoryStore
    actions: ActionStore
    roll: Callable[[], Awaitable[object]]
    offset: int = 0

    async def save(self, ticks: list[Tick]) -> None:
        if not self.offset:
            await self.ticks.adopt([0])
        days: dict[DayKey, Day] = {}
        await self.ticks.save(batch(ticks, [Move(0, self.offset, self.offset + len(ticks))], days))
        self.offset += len(ticks)

    async def listed(self, names: dict[str, str]) -> None:
        await self.ticks.keep([Instrument(s, n, 10_000, 1, SESSION) for s, n in names.items()])

    async def found(self, text: str, found_max: int = 20) -> list[str]:
        return [found.symbol for found in await self.history.search(text, found_max, 0)]


def closes(points: list[Point]) -> list[tuple[int, int | None]]:
    return [(point.time_ns, point.close) for point in points]


class HistoryContract:
    async def test_longer_points_are_added_up_and_the_newest_are_kept(self, store: Store) -> None:
        ticks: list[Tick] = [trade(i + 1, (i + 1) * 10_000, at_ns=HOUR + i * MINUTE_NS) for i in range(12)]
        ticks[5] = trade(6, 5, cond=FORM_T, at_ns=HOUR + 5 * MINUTE_NS)
        await store.save(ticks)
        window = Window(HOUR, HOUR + HOUR_NS, 5 * MINUTE_NS)
        points = await store.history.points("AAPL", window, 10)
        assert [p.time_ns for p in points] == [HOUR, HOUR + 5 * MINUTE_NS, HOUR + 10 * MINUTE_NS]
        assert [(p.open, p.high, p.low, p.close) for p in points] == [
            (10_000, 50_000, 10_000, 50_000),
            (70_000, 100_000, 70_000, 100_000),
            (110_000, 120_000, 110_000, 120_000),
        ]
        assert [(p.volume, p.trades) for p in points] == [(500, 5), (500, 5), (200, 2)]
        for few in (1, 2):
            assert await store.history.points("AAPL", window, few) == points[-few:]
        assert await store.history.points("SPY", window, 10) == []

    async def test_a_day_is_a_new_york_day(self, store: Store) -> None:
        times = [MIDNIGHT - 4 * HOUR_NS, MIDNIGHT, MIDNIGHT + 20 * HOUR_NS]
        await store.save([trade(i + 1, at_ns=t) for i, t in enumerate(times)])
        window = window_of(0, MIDNIGHT + DAY_NS, "1d")
        for _ in range(2):
            points = await store.history.points("AAPL", window, 10)
            assert [(p.time_ns, p.trades) for p in points] == [(MIDNIGHT - DAY_NS, 1), (MIDNIGHT, 2)]
            await store.roll()

    async def test_days_without_or_with_an_hour_twice_are_days_too(self, store: Store) -> None:
        """Summer time begins on the 10th of March and ends on the 3rd of November 2024."""
        starts = [midnight_ns(date(2024, 3, 9 + i)) for i in range(3)] + [
            midnight_ns(date(2024, 11, 2 + i)) for i in range(3)
        ]
        assert [b - a for a, b in pairwise(starts) if b - a < 2 * DAY_NS] == [
            DAY_NS, 23 * HOUR_NS, DAY_NS, 25 * HOUR_NS,
        ]  # fmt: skip
        times = [moment for start in starts for moment in (start, start - MINUTE_NS)]
        await store.save([trade(i + 1, at_ns=t) for i, t in enumerate(sorted(times))])
        for _ in range(2):
            points = await store.history.points("AAPL", window_of(0, starts[-1] + 1, "1d"), 100)
            assert [p.time_ns for p in points if p.trades == 2] == [*starts[:2], *starts[3:5]]
            assert [p.trades for p in points] == [1, 2, 2, 1, 1, 2, 2, 1]
            await store.roll()

    async def test_every_answer_is_right_whatever_is_rolled_up(self, store: Store) -> None:
        """Against the twin, which only ever adds up minutes, while trades come in any order and roll-ups between."""
        chance, right = random.Random(11), MemoryPrices()
        twin = Store(right, right, right, _nothing)
        numbers = iter(range(1, 10**6))
        for round_ in range(6):
            for _ in range(2):
                ticks = [_any_trade(chance, next(numbers)) for _ in range(60)]
                await store.save(ticks)
                await twin.save(ticks)
            if round_ % 2:
                await store.roll()
            else:
                await self._compare(store.history, right, chance)
        await store.roll()
        await self._compare(store.history, right, chance)

    async def _compare(self, real: HistoryStore, right: HistoryStore, chance: random.Random) -> None:
        for interval in INTERVALS:
            if interval == "1s":
                continue
            for _ in range(3):
                a, b = sorted(chance.sample(range(MIDNIGHT - 2 * DAY_NS, MIDNIGHT + 9 * DAY_NS, MINUTE_NS), 2))
                for window in (window_of(a, b, interval), window_of(0, MIDNIGHT + 20 * DAY_NS, interval)):
                    for symbol, points_max in (("AAPL", 10_000), ("AAPL", chance.randint(1, 8)), ("SPY", 10_000)):
                        expected = await right.points(symbol, window, points_max)
                        assert await real.points(symbol, window, points_max) == expected

    async def test_seconds_are_added_up_from_ticks(self, store: Store) -> None:
        chance, right = random.Random(5), MemoryPrices()
        twin = Store(right, right, right, _nothing)
        ticks: list[Tick] = [_any_trade(chance, q, HOUR_NS // 100) for q in range(1, 200)]
        ticks += [quote(200, at_ns=MIDNIGHT), trade(201, 7, at_ns=MIDNIGHT + 1), trade(202, 9, at_ns=MIDNIGHT)]
        for each in (store, twin):
            await each.save(ticks)
        for first, last in ((0, 40), (3, 20), (-5, 0)):
            window = window_of(MIDNIGHT + first * NS_PER_S, MIDNIGHT + last * NS_PER_S, "1s")
            expected = await right.points("AAPL", window, 3600)
            assert await store.history.points("AAPL", window, 3600) == expected
            assert bool(expected) == (last > 0)
            assert await store.history.points("AAPL", window, 4) == expected[-4:]
        (second,) = await store.history.points("AAPL", window_of(MIDNIGHT, MIDNIGHT + 1, "1s"), 1)
        assert second.trades >= 2
        assert second.time_ns == MIDNIGHT

    async def test_what_is_known_of_a_symbol(self, store: Store) -> None:
        await store.listed({"LISTED": "Listed"})
        await store.save([trade(1, symbol="TICKED")])
        found = [await store.history.about(symbol) for symbol in ("LISTED", "TICKED", "NEITHER")]
        assert [about.known for about in found] == [True, True, False]
        assert found[2] == About(False, None, [])

    async def test_corporate_actions_are_kept_and_replaced(self, store: Store) -> None:
        split, dividend = Action(date(2024, 1, 9), "split", 1, 2), Action(date(2023, 1, 9), "dividend", 99, 100)
        await store.actions.keep_actions([("AAPL", split), ("AAPL", dividend), ("SPY", split)])
        assert (await store.history.about("AAPL")).actions == [dividend, split]
        mended = split._replace(price_denominator=3)
        await store.actions.keep_actions([("AAPL", mended)])
        assert (await store.history.about("AAPL")).actions == [dividend, mended]
        assert (await store.history.about("SPY")).actions == [split]

    async def test_search_ranks_symbols_before_names_and_names_before_likeness(self, store: Store) -> None:
        await store.listed({
            "AAPL": "Apple Inc.",
            "APP": "AppLovin Corporation",
            "APPN": "Appian Corp",
            "B": "Big Apple Bank",
            "PNPL": "Pineapple Express",
            "MSFT": "Microsoft Corporation",
            "KO": "Coca-Cola Company",
            "ODD": "Odd 50%_Off \\ Ltd",
        })  # fmt: skip
        assert await store.found("app") == ["APP", "APPN", "AAPL", "B", "PNPL"]
        assert await store.found("APP", 2) == ["APP", "APPN"]
        assert (await store.found("corp app"))[:2] == ["APP", "APPN"]
        assert await store.found("b") == ["B"]
        assert await store.found("cola") == ["KO"]
        for typed, symbol in {
            "micorsoft": "MSFT",
            "MSTF": "MSFT",
            "aple": "AAPL",
            "0%_o": "ODD",
            "off \\": "ODD",
        }.items():
            assert (await store.found(typed))[0] == symbol
        for nothing in ("%", "_", "'; --", "zzzzzz", "💩", "%%%"):
            assert await store.found(nothing) == []

    async def test_of_equal_rank_the_most_traded_comes_first(self, store: Store) -> None:
        await store.listed({s: f"Fund {s}" for s in ("XA", "XB", "XC", "XD")})
        traded = {"XB": 3, "XD": 9, "XC": 1}
        await store.save([trade(1, 1_000_000, size, symbol=s, at_ns=MIDNIGHT) for s, size in traded.items()])
        await store.roll()
        assert await store.found("x") == ["XD", "XB", "XC", "XA"]
        assert await store.found("fund") == ["XD", "XB", "XC", "XA"]
        later = await store.history.search("x", 20, MIDNIGHT + DAY_NS)
        assert [found.symbol for found in later] == ["XA", "XB", "XC", "XD"]


async def _nothing() -> None:
    """The twin has nothing to roll up."""


def _any_trade(chance: random.Random, q: int, span_ns: int = 7 * DAY_NS) -> Tick:
    """Of AAPL, and every eighth of SPY; now and then one that sets no prices."""
    cond = chance.choice([1, 1, 1, 1, FORM_T, ODD_LOT])
    at_ns = MIDNIGHT + chance.randrange(span_ns)
    symbol = "SPY" if q % 8 == 0 else "AAPL"
    return trade(q, chance.randint(1, 10**9), chance.randint(0, 10**6), cond, at_ns, symbol)


class TestMemory(HistoryContract):
    @pytest.fixture
    async def store(self) -> Store:
        prices = MemoryPrices()
        return Store(prices, prices, prices, _nothing)


@pytest.mark.real
class TestPostgres(HistoryContract):
    @pytest.fixture
    async def store(self, prices_db: str) -> AsyncIterator[Store]:
        source = engine(prices_db, "test")
        rollups = PgRollups(source, hours_max=7)

        async def roll() -> None:
            await rollups.roll([0])

        yield Store(PgTicks(source), PgHistory(source), PgActions(source), roll)
        await source.dispose()

    async def test_an_answer_has_all_that_was_stored_while_hours_are_rolled_up_under_it(self, store: Store) -> None:
        chance, stored, asked = random.Random(3), 0, 0
        ended = asyncio.Event()

        async def roll() -> None:
            while not ended.is_set():
                await store.roll()

        async def read() -> None:
            nonlocal asked
            windows = [window_of(0, MIDNIGHT + 20 * DAY_NS, interval) for interval in ("1h", "1d")]
            while not ended.is_set():
                before = stored
                points = await store.history.points("AAPL", windows[asked % 2], 10_000)
                assert before <= sum(point.trades for point in points) <= stored + 20
                asked += 1

        beside = [asyncio.create_task(each()) for each in (roll, read, read)]
        for at in range(25):
            ticks: list[Tick] = [
                trade(20 * at + i, at_ns=MIDNIGHT + chance.randrange(3 * DAY_NS)) for i in range(1, 21)
            ]
            await store.save(ticks)
            stored += len(ticks)
        ended.set()
        await asyncio.gather(*beside)
        assert asked > 10
