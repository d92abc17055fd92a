"""Market data frames to records, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from exchange_gateway.feed.books import BooksOut
from exchange_gateway.feed.feed import Feed
from exchange_gateway.stream import Hole
from infra.bus import BusError
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import (
    DEPTH,
    INSTRUMENTS,
    MARKET_STATUS,
    PRICES,
    Depth,
    Instrument,
    MarketStatus,
    Quote,
    Trade,
    encode,
)
from tests.unit.exchange_gateway.words import read_all

SESSION = 1_700_000_000
ODD = b'{"k":"T", "s":"AAPL","d":1700000000,"q":1,"t":5,"p":99990000,"z":1,"c":0,"x":"Q","later":[1,{"a":2}]}'


class Source:
    def __init__(self) -> None:
        self.asked: list[tuple[int | None, int | None]] = []

    async def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        self.asked.append((session, after))
        return
        yield b""


class Room:
    def __init__(self, position: str | None = None) -> None:
        self.bus = MemoryBus(ManualClock())
        self.source = Source()
        self.feed = Feed(self.source, self.bus.producer())
        self.connection = self.feed.frames(position)


def ticks(n: int, *items: bytes, session: int = SESSION) -> bytes:
    return b'{"type":"ticks","session":%d,"n":%d,"ticks":[%b]}' % (session, n, b",".join(items))


def trade(q: int, symbol: str = "AAPL") -> bytes:
    return encode(Trade(s=symbol, d=SESSION, q=q, t=1, p=1, z=1))


async def test_ticks_keep_their_bytes() -> None:
    room = Room()
    quote = encode(Quote(s="MSFT", d=SESSION, q=7, t=1, b=1, bz=1, a=2, az=2))
    taken = room.feed.take(ticks(2, ODD, quote))
    assert taken
    assert (taken.position, len(taken.records)) == ("1700000000:2", 2)
    records = {record.key: record for record in await read_all(room.bus, PRICES)}
    assert records[b"AAPL"].value == ODD
    assert records[b"MSFT"].value == quote
    assert records[b"MSFT"].header("event-id") == b"MSFT-1700000000-7"
    assert [name for name, _ in records[b"AAPL"].headers] == ["event-id", "idempotency-key", "traceparent", "schema"]


async def test_instruments_and_status() -> None:
    room = Room("1700000000:5")
    item = encode(Instrument(symbol="AAPL", name="Apple", tick_micros=10_000, lot=1, session=SESSION))
    opened = encode(MarketStatus(kind="open", session=SESSION, at_ns=1))
    halted = encode(MarketStatus(kind="halt", session=SESSION, at_ns=1, symbol="AAPL"))
    taken = room.feed.take(b'{"type":"instruments","instruments":[%b]}' % item)
    assert taken
    assert taken.position == "1700000000:5", "the position does not move, and waits for these"
    for status in (opened, halted, b'{"kind":"close"}'):
        room.feed.take(b'{"type":"status","status":%b}' % status)
    assert [(r.key, r.value) for r in await read_all(room.bus, INSTRUMENTS)] == [(b"AAPL", item)]
    statuses = [(r.key, r.value) for r in await read_all(room.bus, MARKET_STATUS)]
    assert statuses == [(b"*", opened), (b"AAPL", halted), (b"*", b'{"kind":"close"}')]


async def test_it_asks_from_the_stored_position() -> None:
    for position, asked in ((None, (None, None)), ("1700000000:42", (SESSION, 42))):
        room = Room(position)
        assert [frame async for frame in room.connection] == []
        assert room.source.asked == [asked]


async def test_a_hole_within_a_connection_is_asked_for_again() -> None:
    room = Room()
    room.feed.take(ticks(1, trade(1)))
    with pytest.raises(Hole):
        room.feed.take(ticks(4, trade(3), trade(4)))
    assert len(await read_all(room.bus, PRICES)) == 1


async def test_a_hole_at_the_start_of_an_answer_is_what_the_venue_has() -> None:
    room = Room("1700000000:1")
    taken = room.feed.take(ticks(4, trade(4)))
    assert taken
    assert taken.position == "1700000000:4"


async def test_a_hole_that_connecting_anew_did_not_close_is_the_venue_s_and_so_are_the_next_ones() -> None:
    room = Room("1700000000:1")
    assert room.feed.take(ticks(4, trade(3), trade(4)))
    taken = room.feed.take(ticks(9, trade(8), trade(9)))
    assert taken
    assert taken.position == "1700000000:9"
    room.feed.frames("1700000000:9")
    assert room.feed.take(ticks(10, trade(10)))
    with pytest.raises(Hole):
        room.feed.take(ticks(12, trade(12)))


async def test_a_frame_of_which_every_tick_is_left_out_moves_the_position() -> None:
    room = Room("1700000000:1")
    taken = room.feed.take(ticks(2))
    assert taken
    assert (taken.position, taken.records) == ("1700000000:2", [])


def books(*numbers: int) -> tuple[bytes, list[bytes]]:
    made = [encode(Depth("AAPL", SESSION, n, 5, ((100, 1),), ())) for n in numbers]
    return b'{"type":"depth","books":[%b]}' % b",".join(made), made


async def test_books_keep_their_bytes_and_move_no_position() -> None:
    room = Room("1700000000:5")
    frame, made = books(1, 2)
    assert room.feed.take(frame) is None
    assert room.feed.take(b'{"type":"depth","books":[{"s":1}]}') is None
    records = await read_all(room.bus, DEPTH)
    assert [(r.key, r.value) for r in records] == [(b"AAPL", value) for value in made]
    assert room.feed.take(ticks(6, trade(6)))


class Full:
    """A producer whose queue takes so many records, none of which is ever acknowledged."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[asyncio.Future[None]] = []

    def send(self, *_: Any) -> asyncio.Future[None]:
        if len(self.taken) >= self.room:
            raise BusError("the producer's queue is full")
        self.taken.append(asyncio.get_running_loop().create_future())
        return self.taken[-1]

    def post(self, *_: Any) -> None:
        raise AssertionError("not used here")

    async def close(self) -> None:
        pass


async def test_books_are_dropped_rather_than_fill_the_ticks_queue() -> None:
    producer = Full(10)
    out = BooksOut(producer, in_flight_max=3)
    raw = [msgspec.Raw(value) for value in books(*range(1, 6))[1]]
    out.send(raw)
    assert len(producer.taken) == 3
    producer.taken[0].set_exception(BusError("lost"))
    producer.taken[1].set_result(None)
    await asyncio.sleep(0)
    out.send(raw)
    assert len(producer.taken) == 5, "what failed or arrived makes room"
    BooksOut(Full(0)).send(raw)


async def test_overlaps_and_new_sessions_are_taken() -> None:
    room = Room("1700000000:2")
    for frame, position in (
        (ticks(2, trade(1), trade(2)), "1700000000:2"),
        (ticks(3, trade(3)), "1700000000:3"),
        (ticks(9, trade(9), session=SESSION + 60), "1700000060:9"),
    ):
        taken = room.feed.take(frame)
        assert taken
        assert taken.position == position


async def test_a_gap_of_unknown_length_forgets_the_position() -> None:
    room = Room("1700000000:2")
    assert room.feed.take(b'{"type":"gap","session":1700000000,"from":3,"to":null}') is None
    assert room.feed.take(ticks(9, trade(9), session=SESSION + 60))


async def test_a_gap_moves_the_position() -> None:
    room = Room("1700000000:2")
    taken = room.feed.take(b'{"type":"gap","session":1700000000,"from":3,"to":8}')
    assert taken
    assert (taken.position, taken.records) == ("1700000000:8", [])
    assert room.feed.take(ticks(9, trade(9)))


@pytest.mark.parametrize("frame", [b"", b"{", b"\xff", b'{"type":"later"}', b'{"type":"ticks"}', b"[]"])
async def test_a_frame_that_makes_no_sense_is_passed(frame: bytes) -> None:
    assert Room().feed.take(frame) is None


async def test_a_tick_without_identity_does_not_stop_the_others() -> None:
    room = Room()
    taken = room.feed.take(ticks(3, trade(1), b'{"s":1}', trade(2)))
    assert taken
    assert (taken.position, len(taken.records)) == ("1700000000:3", 2)
