"""What the ingest makes of messages, and what it does when the store, the cache or the bus are in trouble."""

from __future__ import annotations

import asyncio
import struct

import pytest

from infra.bus import BusError, Message, TopicPartition
from infra.bus_memory import MemoryBus
from infra.cache import CacheDown
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from infra.contracts import PRICE_MICROS_MAX, PRICES, SIZE_MAX, Headers, Tick, encode
from infra.worker import Worker
from price_service.domain.days import Day, DayKey
from price_service.ingest.mirror import Mirror
from price_service.ingest.prices import GROUP, TRANSIENT, Ingest
from price_service.ingest.rows import COLUMNS, HEADER, TRAILER
from price_service.ingest.rows import rows as packed
from price_service.ingest.ticks import Readable, moves
from price_service.store.cached import MAP, snapshot
from price_service.store.columns import Columns
from price_service.store.memory import MemoryPrices
from price_service.store.records import Batch, Conflict, Move, StoreAway
from tests.unit.price_service.made import RECEIVED_MS, SESSION, message, quote, trade


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"k":"X","s":"A","d":1,"q":1,"t":1}',
        b'{"k":"T","s":"A","d":1,"q":1,"t":1,"z":1}',
        b'{"k":"T","s":"A","d":1,"q":1.5,"t":1,"p":1,"z":1}',
        b'{"k":"T","s":"A","d":1,"q":"1","t":1,"p":1,"z":1}',
        encode(trade(0)),
        encode(trade(1, at_ns=-1)),
        encode(trade(1 << 62)),
        encode(trade(1 << 80)),
        encode(trade(1, micros=0)),
        encode(trade(1, micros=PRICE_MICROS_MAX + 1)),
        encode(trade(1, size=-1)),
        encode(trade(1, size=SIZE_MAX + 1)),
        encode(trade(1, cond=-1)),
        encode(trade(1, symbol="")),
        encode(trade(1, symbol="A" * 17)),
        encode(trade(1, symbol="A\0")),
        encode(trade(1, symbol="Ä")),
        encode(trade(1, session=-1)),
        encode(quote(1, bid=-1)),
        encode(quote(1, size=-1)),
    ],
)
def test_what_is_no_tick_or_cannot_be_stored_is_parked(raw: bytes | None) -> None:
    readable = Readable([message(raw), message(trade(1))])
    assert readable.ticks == [trade(1)]
    assert [m.value for m in readable.messages] == [encode(trade(1))]
    assert [park.code for park in readable.parked] == ["malformed"]
    assert readable.parked[0].text


def test_odd_but_real_quotes_are_kept() -> None:
    odd = [quote(1, bid=5, ask=5), quote(2, bid=6, ask=5), quote(3, bid=0, ask=0, size=0)]
    readable = Readable([message(tick) for tick in odd])
    assert readable.ticks == odd
    assert not readable.parked


def test_a_partition_moves_to_after_its_last_message_even_when_offsets_have_holes() -> None:
    batch = [message(trade(1), 7, 1), message(trade(2), 12, 1), message(trade(1), 0, 0)]
    assert moves(batch, {0: 0, 1: 5}.__getitem__) == [Move(0, 0, 1), Move(1, 5, 13)]


def test_a_row_of_binary_copy_has_all_columns_in_their_lengths() -> None:
    ticks: list[Tick] = [trade(3, symbol="BRK.B", at_ns=1_000_000_123), quote(4)]
    raw = HEADER + b"".join(packed(Columns(ticks, [RECEIVED_MS, RECEIVED_MS]))) + TRAILER
    assert raw.startswith(b"PGCOPY\n\xff\r\n\0")
    assert raw.endswith(b"\xff\xff")
    at, rows = 19, []
    while (count := struct.unpack_from(">h", raw, at)[0]) != -1:
        assert count == len(COLUMNS)
        at, row = at + 2, []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", raw, at)
            row.append(None if length < 0 else raw[at + 4 : at + 4 + length])
            at += 4 + max(length, 0)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    assert at == len(raw) - 2
    assert rows[0]["symbol"] == b"BRK.B"
    assert rows[0]["ns"] == struct.pack(">h", 123)
    assert rows[0]["ts"] == struct.pack(">q", 1_000_000 - 946_684_800_000_000)
    assert [rows[0]["kind"], rows[1]["kind"]] == [b"T", b"Q"]
    assert [name for name, value in rows[0].items() if value is None] == [
        "bid_micros",
        "bid_size",
        "ask_micros",
        "ask_size",
    ]
    assert [name for name, value in rows[1].items() if value is None] == ["exch", "price_micros", "size", "cond"]


class Rig:
    """An ingest on twins, with a store and a cache that can be told to fail."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        self.store = Store()
        self.cache = Cache(self.clock)
        self.mirror = Mirror(self.cache, write_ms=0)
        self.ingest = Ingest(self.store, self.bus.producer(), self.mirror)

    async def parked(self) -> list[Message]:
        dlq = await self.bus.read([PRICES + ".dlq"], "earliest")
        return await dlq.batch(100, 0)


class Store(MemoryPrices):
    def __init__(self) -> None:
        super().__init__()
        self.fail: list[Exception | None] = []

    async def save(self, batch: Batch) -> None:
        if self.fail and (error := self.fail.pop(0)) is not None:
            raise error
        await super().save(batch)


class Cache(MemoryCache):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.down = False

    async def write_map(self, name: str, fields: object) -> None:
        if self.down:
            raise CacheDown("down")
        await super().write_map(name, fields)  # type: ignore[arg-type]


async def test_a_malformed_message_is_parked_and_the_others_are_stored() -> None:
    rig = Rig()
    await rig.ingest([message(trade(1), 0), message(b"junk", 1), message(trade(2), 2)])
    assert [r.tick.q for r in rig.store.ticks] == [1, 2]
    assert [m.value for m in await rig.parked()] == [b"junk"]
    assert (await rig.store.adopt([0])).offsets == {0: 3}


async def test_a_malformed_message_is_parked_before_its_offset_is_passed() -> None:
    """The other way round a crash in between would lose it."""
    rig = Rig()
    rig.store.fail = [StoreAway("crash")]
    with pytest.raises(StoreAway):
        await rig.ingest([message(b"junk", 0)])
    assert len(await rig.parked()) == 1
    assert (await rig.store.adopt([0])).offsets == {0: 0}


async def test_nothing_is_stored_while_a_message_cannot_be_parked() -> None:
    rig = Rig()

    class Full:
        def send(
            self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()
        ) -> asyncio.Future[None]:
            raise BusError("full")

        def post(self, *_: object) -> None:
            raise BusError("full")

        async def close(self) -> None:
            return None

    ingest = Ingest(rig.store, Full(), rig.mirror)
    with pytest.raises(BusError):
        await ingest([message(trade(1), 0), message(b"junk", 1)])
    assert not rig.store.ticks


async def test_after_a_failed_save_the_batch_is_stored_by_the_next_try() -> None:
    rig = Rig()
    batch = [message(trade(1), 0), message(quote(2), 1)]
    for error in (StoreAway("away"), Conflict("moved")):
        rig.store.fail = [error]
        with pytest.raises(type(error)):
            await rig.ingest(batch)
    await rig.ingest(batch)
    assert [r.tick.q for r in rig.store.ticks] == [1, 2]


async def test_what_another_worker_has_stored_is_passed_over() -> None:
    rig = Rig()
    other = Ingest(rig.store, rig.bus.producer(), rig.mirror)
    places = [TopicPartition(PRICES, 0)]
    assert await rig.ingest.assigned(places) == {places[0]: 0}
    assert await other.assigned(places) == {places[0]: 0}
    batch = [message(trade(1), 0), message(trade(2), 1)]
    await other(batch)
    with pytest.raises(Conflict):
        await rig.ingest([*batch, message(trade(3), 2)])
    await rig.ingest([*batch, message(trade(3), 2)])
    assert [r.tick.q for r in rig.store.ticks] == [1, 2, 3]
    assert await other.assigned(places) == {places[0]: 3}


async def test_a_straggler_of_an_earlier_session_is_stored_once() -> None:
    rig = Rig()
    sessions = [SESSION, SESSION + 1, SESSION + 2, SESSION + 3]
    await rig.ingest([message(trade(q, session=s), i * 2 + q - 1) for i, s in enumerate(sessions) for q in (1, 2)])
    await rig.ingest([message(trade(2), 8), message(trade(3), 9)])
    assert sorted(r.tick.q for r in rig.store.ticks if r.tick.d == SESSION) == [1, 2, 3]


async def test_the_worker_waits_for_the_store_and_parks_nothing() -> None:
    rig, stop = Rig(), asyncio.Event()
    producer = rig.bus.producer()
    for q in (1, 2):
        producer.send(PRICES, b"AAPL", encode(trade(q)))
    rig.store.fail = [StoreAway("down"), Conflict("moved")]
    subscription = await rig.bus.subscribe([PRICES], GROUP, rig.ingest.assigned)
    worker = Worker(GROUP, subscription, producer, rig.ingest, wait_s=0.01, transient=TRANSIENT)
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(5):
        while len(rig.store.ticks) < 2:  # noqa: ASYNC110 - the store has no event to wait for
            await asyncio.sleep(0.01)
    stop.set()
    await running
    assert not await rig.parked()


async def test_the_cache_gets_days_and_offsets_that_fit() -> None:
    rig = Rig()
    await rig.ingest([message(trade(1), 4), message(trade(1, symbol="SPY"), 0, 3)])
    await rig.mirror.write()
    offsets, days = snapshot(await rig.cache.read_map(MAP))
    assert offsets == {0: 5, 3: 1}
    assert sorted(day.symbol for day in days) == ["AAPL", "SPY"]


async def test_a_cache_that_was_away_is_healed_by_the_next_write() -> None:
    rig = Rig()
    rig.cache.down = True
    await rig.ingest([message(trade(1), 0)])
    await rig.mirror.write()
    assert rig.mirror.skipped == 1
    assert await rig.cache.read_map(MAP) == {}
    rig.cache.down = False
    await rig.ingest([message(trade(1, symbol="SPY"), 0, 3)])
    await rig.mirror.write()
    offsets, days = snapshot(await rig.cache.read_map(MAP))
    assert offsets == {0: 1, 3: 1}
    assert sorted(day.symbol for day in days) == ["AAPL", "SPY"]


async def test_a_cache_that_lost_its_memory_is_whole_again_once_a_partition_moves() -> None:
    rig = Rig()
    await rig.ingest([message(trade(1), 0), message(trade(1, symbol="IBM"), 1)])
    await rig.mirror.write()
    forgetful = MemoryCache(rig.clock)
    rig.mirror._cache = forgetful
    await rig.mirror.write()
    assert await forgetful.read_map(MAP) == {}
    await rig.ingest([message(trade(2), 2)])
    await rig.mirror.write()
    offsets, days = snapshot(await forgetful.read_map(MAP))
    assert offsets == {0: 3}
    assert sorted(day.symbol for day in days) == ["AAPL", "IBM"]


async def test_an_older_sessions_day_never_replaces_a_newer_one_in_the_cache() -> None:
    rig = Rig()
    rig.mirror.changed([Day("A", 2, 0), Day("A", 1, 0)])
    rig.mirror.moved(0, 1)
    await rig.mirror.write()
    assert [day.session for day in snapshot(await rig.cache.read_map(MAP)).days] == [2]


async def test_after_a_restart_the_cache_is_written_whole_from_the_store() -> None:
    rig = Rig()
    await rig.ingest([message(trade(1), 0)])
    again = Ingest(rig.store, rig.bus.producer(), rig.mirror)
    await again.assigned([TopicPartition(PRICES, 0), TopicPartition(PRICES, 1)])
    await rig.mirror.write()
    offsets, days = snapshot(await rig.cache.read_map(MAP))
    assert offsets == {0: 1, 1: 0}
    assert [(day.symbol, day.volume, day.received_ms) for day in days] == [("AAPL", 100, RECEIVED_MS)]


async def test_holes_are_named_until_they_are_closed() -> None:
    rig = Rig()
    await rig.ingest([message(trade(q), i) for i, q in enumerate((1, 2, 5, 9))])
    key = DayKey("AAPL", SESSION)
    assert rig.ingest.holes() == {key: [(3, 4), (6, 8)]}
    await rig.ingest([message(trade(q), 4 + i) for i, q in enumerate((7, 4, 3, 8, 6))])
    assert rig.ingest.holes() == {key: []}


async def test_a_transaction_is_made_while_another_is_stored_and_neither_is_begun_after_a_failure() -> None:
    rig = Rig()
    rig.store.fail = [None, StoreAway("away")]
    ingest = Ingest(rig.store, rig.bus.producer(), rig.mirror, transaction_max=2)
    batch = [message(trade(q), q - 1) for q in range(1, 8)]
    with pytest.raises(StoreAway):
        await ingest(batch)
    assert [r.tick.q for r in rig.store.ticks] == [1, 2]
    await ingest(batch)
    assert [r.tick.q for r in rig.store.ticks] == [1, 2, 3, 4, 5, 6, 7]


async def test_partitions_that_went_to_another_worker_are_forgotten() -> None:
    rig = Rig()
    await rig.ingest.assigned([TopicPartition(PRICES, partition) for partition in (0, 1)])
    await rig.ingest([message(trade(q), i) for i, q in enumerate((1, 3))])
    assert list(rig.ingest.holes().values()) == [[(2, 2)]]
    await rig.ingest.assigned([TopicPartition(PRICES, 1)])
    assert (list(rig.ingest.partitions()), rig.ingest.holes()) == ([1], {})
