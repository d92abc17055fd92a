"""The worker's loop on the memory bus: parking, halving, waiting, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import psycopg
import pytest

from infra import worker as worker_module
from infra.bus import BusError, Message, Offsets, Subscription, TopicPartition
from infra.bus_memory import MemoryBus, MemoryProducer
from infra.clock import ManualClock
from infra.contracts import DLQ_SUFFIX, Headers, Topic
from infra.dlq.park import Park
from infra.worker import Handler, Worker

TOPIC = "things"
PLACE = TopicPartition(TOPIC, 0)
DEADLINE_S = 10.0


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S_FIRST", 0.001)
    monkeypatch.setattr(worker_module, "RETRY_S_MAX", 0.002)


@pytest.fixture(autouse=True, params=[False, True], ids=["in turn", "ahead"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this holds for a worker that reads ahead, too."""
    monkeypatch.setattr(House, "ahead", request.param)


class Noted:
    """A subscription that remembers what was committed and stumbles once for each step in `troubles`."""

    def __init__(self, inner: Subscription, commits: list[Offsets], troubles: list[str]) -> None:
        self._inner = inner
        self._commits = commits
        self._troubles = troubles

    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        self._stumble("batch")
        return await self._inner.batch(messages_max, wait_s)

    async def commit(self, offsets: Offsets) -> None:
        self._stumble("commit")
        self._commits.append(dict(offsets))
        await self._inner.commit(offsets)

    async def close(self) -> None:
        await self._inner.close()

    def _stumble(self, step: str) -> None:
        if step in self._troubles:
            self._troubles.remove(step)
            raise BusError("away")


class House:
    """A bus with one topic, its dead-letter topic, and a record of what the group committed."""

    ahead = False

    def __init__(self) -> None:
        topics = [Topic(name, "key", "A topic.", 1) for name in (TOPIC, TOPIC + DLQ_SUFFIX)]
        self.bus = MemoryBus(ManualClock(), topics)
        self.stop = asyncio.Event()
        self.commits: list[Offsets] = []
        self.troubles: list[str] = []
        self.producer: MemoryProducer = self.bus.producer()

    def send(self, *values: bytes) -> None:
        for value in values:
            self.bus.append(TOPIC, b"k", value, (("event-id", value),))

    async def worker(self, handler: Handler) -> Worker:
        subscription = Noted(await self.bus.subscribe([TOPIC], "group"), self.commits, list(self.troubles))
        return Worker("group", subscription, self.producer, handler, ahead=self.ahead)

    async def run_until(self, handler: Handler, condition: Callable[[], bool]) -> None:
        """The worker runs until the condition holds, and ends cleanly."""
        await self.run_worker(await self.worker(handler), condition)

    async def run_worker(self, worker: Worker, condition: Callable[[], bool]) -> None:
        running = asyncio.create_task(worker.run(self.stop))
        async with asyncio.timeout(DEADLINE_S):
            while not condition() and not running.done():
                await asyncio.wait({running}, timeout=0.001)
            self.stop.set()
            await running

    def committed(self, offset: int) -> Callable[[], bool]:
        return lambda: bool(self.commits) and self.commits[-1] == {PLACE: offset}

    async def parked(self) -> list[Message]:
        reading = await self.bus.read([TOPIC + DLQ_SUFFIX], "earliest")
        return await reading.batch(100, 0)


class Handled:
    """A handler that remembers what it did; `fail` says which value raises what."""

    def __init__(self, fail: Callable[[bytes], Exception | None] = lambda _: None) -> None:
        self.done: list[bytes] = []
        self.calls = 0
        self._fail = fail

    async def __call__(self, messages: Sequence[Message]) -> list[Park]:
        self.calls += 1
        for message in messages:
            if (error := self._fail(message.value or b"")) is not None:
                raise error
        malformed = [m for m in messages if m.value == b"malformed"]
        self.done += [m.value or b"" for m in messages if m not in malformed]
        return [Park(m, "malformed", "not a thing") for m in malformed]


def failing(value: bytes, error: Exception, times: int = 1_000_000) -> Callable[[bytes], Exception | None]:
    left = iter(range(times))
    return lambda seen: error if seen == value and next(left, None) is not None else None


async def test_messages_are_handled_in_order_and_committed() -> None:
    house, handler = House(), Handled()
    house.send(b"1", b"2", b"3")
    await house.run_until(handler, house.committed(3))
    assert handler.done == [b"1", b"2", b"3"]
    assert await house.parked() == []


async def test_a_malformed_message_is_parked_and_the_next_one_handled() -> None:
    house, handler = House(), Handled()
    house.send(b"1", b"malformed", b"3")
    await house.run_until(handler, house.committed(3))
    (parked,) = await house.parked()
    assert handler.done == [b"1", b"3"]
    assert (parked.key, parked.value, parked.header("event-id")) == (b"k", b"malformed", b"malformed")
    assert parked.header("kafka_dlt-original-offset") == (1).to_bytes(8, "big")


async def test_poison_is_narrowed_down_to_itself() -> None:
    house, handler = House(), Handled(failing(b"7", KeyError("seven")))
    house.send(*[str(i).encode() for i in range(16)])
    await house.run_until(handler, house.committed(16))
    assert [m.value for m in await house.parked()] == [b"7"]
    assert handler.done == [str(i).encode() for i in range(16) if i != 7]
    assert handler.calls == 9  # sixteen, two eights, fours, twos and ones


async def test_the_offset_is_committed_only_after_the_park_is_durable() -> None:
    house = House()
    asked = asyncio.Event()
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Slow(MemoryProducer):
        def send(
            self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()
        ) -> asyncio.Future[None]:
            asked.set()
            return durable

    house.producer = Slow(house.bus)
    house.send(b"malformed")
    running = asyncio.create_task((await house.worker(Handled())).run(house.stop))
    await asked.wait()
    house.stop.set()
    await asyncio.wait({running}, timeout=0.05)
    assert not running.done()
    assert house.commits == []
    durable.set_result(None)
    await running
    assert house.commits == [{PLACE: 1}]


async def test_a_park_that_fails_is_tried_again() -> None:
    house = House()
    attempts = iter([BusError("the producer's queue is full"), BusError("lost"), None])

    class Failing(MemoryProducer):
        def send(
            self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()
        ) -> asyncio.Future[None]:
            if (error := next(attempts)) is not None:
                raise error
            return super().send(topic, key, value, headers)

    house.producer = Failing(house.bus)
    house.send(b"malformed")
    await house.run_until(Handled(), house.committed(1))
    assert [m.value for m in await house.parked()] == [b"malformed"]


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("gone"), BusError("away"), ConnectionError(), TimeoutError()]
)
async def test_transient_trouble_is_waited_out(error: Exception) -> None:
    house, handler = House(), Handled(failing(b"2", error, times=4))
    house.send(b"1", b"2", b"3")
    await house.run_until(handler, house.committed(3))
    assert handler.done == [b"1", b"2", b"3"]
    assert handler.calls == 5
    assert await house.parked() == []


async def test_trouble_with_reading_and_committing_is_waited_out() -> None:
    house, handler = House(), Handled()
    house.troubles = ["batch", "commit", "commit"]
    house.send(b"1")
    await house.run_until(handler, house.committed(1))
    assert (handler.done, house.commits) == ([b"1"], [{PLACE: 1}])


async def test_stopping_during_trouble_leaves_the_batch_uncommitted() -> None:
    house, handler = House(), Handled(failing(b"1", ConnectionError()))
    house.send(b"1")
    await house.run_until(handler, lambda: handler.calls > 3)
    assert house.commits == []
    again = await house.bus.subscribe([TOPIC], "group")
    assert [m.value for m in await again.batch(10, 0)] == [b"1"]


async def test_stopping_finishes_the_batch_in_hand() -> None:
    house = House()
    house.send(b"1")

    async def handler(messages: Sequence[Message]) -> list[Park]:
        house.stop.set()
        await asyncio.sleep(0.01)
        return []

    await house.run_until(handler, house.stop.is_set)
    assert house.commits == [{PLACE: 1}]


async def test_a_batch_is_read_while_the_one_before_is_handled() -> None:
    house, seen = House(), list[list[bytes | None]]()
    second_read = asyncio.Event()

    class Watched(Noted):
        async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
            messages = await super().batch(1, wait_s)
            if [m.value for m in messages] == [b"2"]:
                second_read.set()
            return messages

    async def handle(messages: Sequence[Message]) -> Sequence[Park]:
        if not seen:
            await second_read.wait()
        seen.append([message.value for message in messages])
        return ()

    house.send(b"1", b"2")
    subscription = Watched(await house.bus.subscribe([TOPIC], "group"), house.commits, [])
    worker = Worker("group", subscription, house.producer, handle, ahead=True)
    await house.run_worker(worker, lambda: len(seen) == 2)
    assert seen == [[b"1"], [b"2"]]
    assert house.commits[-1] == {PLACE: 2}
