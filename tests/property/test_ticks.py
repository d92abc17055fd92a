"""Exactly once: whatever is sent twice, late, or cut short by a crash, the store holds what was produced, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.bus import BusError, Message, TopicPartition
from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from infra.contracts import PRICES, Instrument, Tick, Trade
from price_service.domain.bars import MINUTE_NS, Bar
from price_service.domain.conditions import FORM_T, ODD_LOT, OUTSIDE_HOURS, sets_prices
from price_service.domain.days import Day, DayKey, Snapshot
from price_service.domain.seen import Seen
from price_service.ingest.mirror import Mirror
from price_service.ingest.prices import Ingest
from price_service.live.quotes import QuoteTable
from price_service.store.cached import MAP, snapshot
from price_service.store.memory import MemoryPrices
from price_service.store.records import Batch, Conflict, StoreAway
from price_service.store.wire import ticks_of
from tests.unit.price_service.made import SESSION, T0, message, quote, trade

CONDITIONS = st.sampled_from([0, 1, FORM_T, OUTSIDE_HOURS, ODD_LOT, FORM_T | ODD_LOT])
SYMBOLS = ("AAPL", "SPY", "BAC")
PARTITIONS = {"AAPL": 0, "SPY": 1, "BAC": 1}


@st.composite
def produced(draw: st.DrawFn) -> list[Tick]:
    """The ticks of up to two sessions of three symbols, each numbered from 1 without holes."""
    ticks: list[Tick] = []
    for symbol in SYMBOLS:
        for session in (SESSION, SESSION + 100):
            for q in range(1, draw(st.integers(0, 12)) + 1):
                at = T0 + draw(st.integers(0, 3 * 60)) * 1_000_000_000 + draw(st.integers(0, 1))
                if draw(st.booleans()):
                    price = draw(st.integers(1, 9)) * 1_000_000
                    size = draw(st.integers(0, 300))
                    ticks.append(trade(q, price, size, draw(CONDITIONS), at, symbol, session))
                else:
                    ticks.append(quote(q, bid=q, ask=q + 1, at_ns=at, symbol=symbol, session=session))
    return ticks


@st.composite
def delivered(draw: st.DrawFn) -> tuple[list[Tick], dict[int, list[Message]]]:
    """What was produced, and the partitions' logs: every tick at least once, some again, in any order."""
    ticks = draw(produced())
    again = draw(st.lists(st.sampled_from(ticks), max_size=20)) if ticks else []
    order = draw(st.randoms(use_true_random=False))
    sent: list[Tick | bytes] = [*ticks, *again, *draw(st.lists(st.just(b"not a tick"), max_size=2))]
    order.shuffle(sent)
    logs: dict[int, list[Message]] = {0: [], 1: []}
    for item in sent:
        partition = 0 if isinstance(item, bytes) else PARTITIONS[item.s]
        logs[partition].append(message(item, len(logs[partition]), partition))
    return ticks, logs


class FaultyStore:
    """A store that fails as real ones do: before the commit, or after it with the answer lost."""

    def __init__(self, inner: MemoryPrices, chance: random.Random) -> None:
        self.inner = inner
        self._chance = chance

    async def adopt(self, partitions: Collection[int]) -> Snapshot:
        return await self.inner.adopt(partitions)

    async def days(self, keys: Collection[DayKey]) -> list[Day]:
        return await self.inner.days(keys)

    async def keep(self, instruments: Iterable[Instrument]) -> None:
        await self.inner.keep(instruments)

    async def save(self, batch: Batch) -> None:
        fate = self._chance.random()
        if fate < 0.15:
            raise StoreAway("before the commit")
        await self.inner.save(batch)
        if fate > 0.85:
            raise StoreAway("after the commit")


async def consume(store: MemoryPrices, logs: dict[int, list[Message]], chance: random.Random) -> MemoryCache:
    """Two workers, of which either may be a zombie at any moment, read batches of any size until all is stored."""
    clock = ManualClock()
    bus, cache = MemoryBus(clock), MemoryCache(clock)
    faulty = FaultyStore(store, chance)
    places = [TopicPartition(PRICES, partition) for partition in logs]

    async def started() -> tuple[Ingest, Mirror, dict[int, int]]:
        mirror = Mirror(cache, write_ms=0)
        ingest = Ingest(faulty, bus.producer(), mirror, transaction_max=4)
        return ingest, mirror, {p.partition: offset for p, offset in (await ingest.assigned(places)).items()}

    workers = [await started(), await started()]
    while (await store.adopt(logs)).offsets != {partition: len(log) for partition, log in logs.items()}:
        number = chance.randrange(2)
        if chance.random() < 0.1:
            workers[number] = await started()
        ingest, mirror, positions = workers[number]
        batch: list[Message] = []
        for partition, log in logs.items():
            batch += log[positions[partition] : positions[partition] + chance.randrange(6)]
        try:
            await ingest(batch)
        except (StoreAway, Conflict, BusError):
            continue
        positions.update({m.partition: m.offset + 1 for m in batch})
        if chance.random() < 0.5:
            await mirror.write()
    return cache


def recomputed(ticks: list[Tick]) -> dict[tuple[str, int], Bar]:
    """The bars by their definition, from all ticks at once."""
    bars: dict[tuple[str, int], Bar] = {}
    trades = [tick for tick in ticks if isinstance(tick, Trade)]
    for symbol, start in sorted({(t.s, t.t - t.t % MINUTE_NS) for t in trades}):
        mine = [t for t in trades if t.s == symbol and t.t - t.t % MINUTE_NS == start]
        bar = bars[symbol, start] = Bar(symbol, start)
        bar.volume, bar.trades = sum(t.z for t in mine), len(mine)
        bar.notional_micros = sum(t.z * t.p for t in mine)
        if setting := sorted((t for t in mine if sets_prices(t.c)), key=lambda t: (t.t, t.d, t.q)):
            first, last, prices = setting[0], setting[-1], [t.p for t in setting]
            bar.open, bar.high, bar.low, bar.close = first.p, max(prices), min(prices), last.p
            bar.first_ns, bar.first_session, bar.first_q = first.t, first.d, first.q
            bar.last_ns, bar.last_session, bar.last_q = last.t, last.d, last.q
    return bars


def in_order(ticks: list[Tick]) -> dict[DayKey, Day]:
    """The days by their definition: every tick once, in sequence."""
    days: dict[DayKey, Day] = {}
    for tick in sorted(ticks, key=lambda t: t.q):
        day = days.setdefault(DayKey(tick.s, tick.d), Day(tick.s, tick.d, PARTITIONS[tick.s]))
        day.apply(tick, message(tick).timestamp_ms)
    return days


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(delivered(), st.integers(0, 2**32))
def test_crashes_repeats_and_reorderings_store_exactly_what_was_produced(
    sent: tuple[list[Tick], dict[int, list[Message]]], seed: int
) -> None:
    ticks, logs = sent
    store = MemoryPrices()
    asyncio.run(consume(store, logs, random.Random(seed)))
    stored = [received.tick for received in store.ticks]
    assert len(stored) == len({(t.s, t.d, t.q) for t in stored})
    assert {(t.s, t.d, t.q): t for t in stored} == {(t.s, t.d, t.q): t for t in ticks}
    bars = {(bar.symbol, bar.bucket_ns): bar for minutes in store.bars.values() for bar in minutes.values()}
    assert bars == recomputed(ticks)
    expected = in_order(ticks)
    assert {day.key: day for day in asyncio.run(store.days(expected.keys()))} == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(delivered(), st.integers(0, 2**32))
def test_a_hub_that_starts_from_any_cache_ends_with_the_same_quotes(
    sent: tuple[list[Tick], dict[int, list[Message]]], seed: int
) -> None:
    ticks, logs = sent

    async def cached() -> Snapshot:
        return snapshot(await (await consume(MemoryPrices(), logs, random.Random(seed))).read_map(MAP))

    start = asyncio.run(cached())
    warm, cold = QuoteTable(1), QuoteTable(1)
    warm.load(start.days)
    for partition, log in logs.items():
        for tick, at in ((by_value(m), m.timestamp_ms) for m in log[start.offsets.get(partition, 0) :]):
            if tick is not None:
                warm.tick(tick, partition, at)
    for tick in sorted(ticks, key=lambda t: (t.d, t.q)):
        cold.tick(tick, PARTITIONS[tick.s], message(tick).timestamp_ms)
    for symbol in {tick.s for tick in ticks}:
        assert warm.quote(symbol) == cold.quote(symbol)


def by_value(sent: Message) -> Tick | None:
    return ticks_of([sent])[0]


@given(st.lists(st.integers(1, 60)))
def test_seen_is_a_set_in_short_form(numbers: list[int]) -> None:
    seen, taken = Seen(), set[int]()
    for q in numbers:
        assert seen.add(q) == (q not in taken)
        taken.add(q)
        assert seen.contiguous == max((n for n in range(61) if set(range(1, n + 1)) <= taken), default=0)
        runs = [q for first, last in seen.above for q in range(first, last + 1)]
        assert runs == sorted(q for q in taken if q > seen.contiguous)
        assert seen.newest == max(taken)
        assert seen.missing == max(taken) - len(taken)
        assert all(b[0] - a[1] > 1 for a, b in zip(seen.above, seen.above[1:], strict=False))
