"""A position is stored only when everything up to it is durable, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from exchange_gateway import stream
from exchange_gateway.stream import OPEN, Follower, Hole, NeverReached, SourceLost, Taken
from infra.bus import BusError
from infra.clock import ManualClock
from infra.db import MemoryCheckpoints
from infra.process import background
from tests.unit.exchange_gateway.words import until

END, WIPED = b"end", b"wiped"


class Numbers:
    """A stream of decimal numbers, three records each. Tests make the records durable one by one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.asked: list[str | None] = []
        self.records: list[asyncio.Future[None]] = []
        self.last = 0
        self.closed = 0

    async def frames(self, position: str | None) -> AsyncIterator[bytes]:
        self.asked.append(position)
        self.last = int(position or 0)
        try:
            while (frame := await self.queue.get()) not in (END, WIPED):
                yield frame
            raise SourceLost("the venue left") if frame == END else NeverReached("4416")
        finally:
            self.closed += 1

    def take(self, frame: bytes) -> Taken:
        number = int(frame)
        if number != self.last + 1:
            raise Hole(f"{number} after {self.last}")
        self.last = number
        records = [asyncio.get_running_loop().create_future() for _ in range(3)]
        self.records += records
        return Taken(str(number), list(records))

    def send(self, *frames: int | bytes) -> None:
        for frame in frames:
            self.queue.put_nowait(frame if isinstance(frame, bytes) else str(frame).encode())

    def durable(self, count: int) -> None:
        for record in [r for r in self.records if not r.done()][:count]:
            record.set_result(None)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SAVE_EVERY_S", 0.001)
    monkeypatch.setattr(stream, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(stream, "CLOSE_S_MAX", 0.01)


def follower(numbers: Numbers, checkpoints: MemoryCheckpoints, in_flight_max: int = 100) -> Follower:
    return Follower("numbers", numbers, checkpoints, ManualClock(), Random(1), in_flight_max)


async def test_only_a_durable_prefix_is_stored() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    async with background(follower(numbers, checkpoints).run):
        numbers.send(1, 2, 3)
        await until(lambda: len(numbers.records) == 9)
        for record in numbers.records[3:]:
            record.set_result(None)  # frames 2 and 3, not yet 1
        await asyncio.sleep(0.01)
        assert await checkpoints.read("numbers") is None
        numbers.durable(2)
        await asyncio.sleep(0.01)
        assert await checkpoints.read("numbers") is None
        numbers.durable(1)
        await until(lambda: checkpoints._rows.get("numbers") == "3")


async def test_it_goes_on_from_what_was_taken_when_the_connection_is_lost() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    following = follower(numbers, checkpoints)
    assert not following.ready()
    async with background(following.run):
        numbers.send(1, 2, END)
        await until(lambda: len(numbers.asked) == 2)
        assert numbers.asked == [None, "2"]
        assert not following.ready()
        numbers.send(3)
        await until(following.ready)
        numbers.durable(9)
        await until(lambda: checkpoints._rows.get("numbers") == "3")


async def test_another_process_goes_on_from_what_is_durable() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    async with background(follower(numbers, checkpoints).run):
        numbers.send(1, 2)
        await until(lambda: len(numbers.records) == 6)
        numbers.durable(4)
    assert await checkpoints.read("numbers") == "1"
    other = Numbers()
    async with background(follower(other, checkpoints).run):
        await until(lambda: other.asked)
    assert other.asked == ["1"]


async def test_an_open_connection_is_ready_before_the_venue_says_anything() -> None:
    numbers = Numbers()
    following = follower(numbers, MemoryCheckpoints())
    async with background(following.run):
        numbers.send(OPEN)
        await until(following.ready)
        assert numbers.last == 0


async def test_a_hole_is_asked_for_again() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    async with background(follower(numbers, checkpoints).run):
        numbers.send(1, 2, 4)
        await until(lambda: len(numbers.asked) == 2)
        assert numbers.asked[1] == "2"
        assert numbers.closed == 1


async def test_a_venue_that_lost_its_memory_is_read_from_the_start() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    await checkpoints.write("numbers", "17")
    async with background(follower(numbers, checkpoints).run):
        numbers.send(WIPED, 1)
        await until(lambda: numbers.records)
        numbers.durable(3)
        await until(lambda: checkpoints._rows.get("numbers") == "1")
    assert numbers.asked == ["17", None]


async def test_too_much_unacknowledged_stops_the_reading() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    async with background(follower(numbers, checkpoints, in_flight_max=7).run):
        numbers.send(*range(1, 11))
        await until(lambda: len(numbers.records) == 9)
        await asyncio.sleep(0.01)
        assert len(numbers.records) == 9
        numbers.durable(3)
        await until(lambda: len(numbers.records) == 12)
        while not all(record.done() for record in numbers.records):
            numbers.durable(100)
            await asyncio.sleep(0.001)
        await until(lambda: checkpoints._rows.get("numbers") == "10")


async def test_a_stop_waits_for_what_is_on_its_way() -> None:
    numbers, checkpoints = Numbers(), MemoryCheckpoints()
    async with background(follower(numbers, checkpoints).run):
        numbers.send(1)
        await until(lambda: numbers.records)
        asyncio.get_running_loop().call_later(0.002, numbers.durable, 3)
    assert await checkpoints.read("numbers") == "1"


async def test_a_record_that_failed_ends_the_part() -> None:
    numbers = Numbers()
    task = asyncio.create_task(follower(numbers, MemoryCheckpoints()).run(asyncio.Event()))
    numbers.send(1)
    await until(lambda: numbers.records)
    numbers.records[0].set_exception(BusError("fatal"))
    numbers.durable(2)
    with pytest.raises(BusError):
        await task


class Broken(MemoryCheckpoints):
    """A store that is away for the first few calls."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 6

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the store restarts")

    async def read(self, name: str) -> str | None:
        if self.failures > 3:
            self._fail()
        return await super().read(name)

    async def write(self, name: str, position: str) -> None:
        self._fail()
        await super().write(name, position)


async def test_a_store_that_restarts_is_waited_for() -> None:
    numbers, checkpoints = Numbers(), Broken()
    async with background(follower(numbers, checkpoints).run):
        numbers.send(1)
        await until(lambda: numbers.records)
        numbers.durable(3)
        await until(lambda: checkpoints._rows.get("numbers") == "1")


async def test_who_waits_for_its_turn_is_ready_after_a_while() -> None:
    clock = ManualClock()
    waiting = Follower("numbers", Numbers(), MemoryCheckpoints(), clock, Random(1))
    assert not waiting.ready()
    clock.advance(stream.STANDBY_AFTER_S + 1)
    assert waiting.ready()
