"""From a dead-letter topic into the index, and from the index back to the topic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ops.fields import moment
from infra.bus import Message
from infra.bus_memory import MemoryBus, MemoryProducer
from infra.clock import ManualClock
from infra.contracts import DLQ_SUFFIX, ORDERS, Headers
from infra.dlq import index as index_module
from infra.dlq.index import index_part, letter_of
from infra.dlq.letters import DLQ_TOPICS, DeadLetter, Filter
from infra.dlq.letters_memory import MemoryLetters
from infra.dlq.park import Park, park, why
from infra.dlq.replay import LocalTurn, Replay, ReplayRunning, Result
from infra.principal import Principal
from infra.process import background

OPERATOR = Principal("operator-1", "operator")
DEADLINE_S = 10.0
ORDER = "018bcfe5-687b-7000-8000-000000000001"
MESSAGE = Message(ORDERS, 3, 2**40, ORDER.encode(), b"\x00value", (("event-id", b"e"), ("a", b"1")), 1_700_000_000_123)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "WAIT_S", 0.01)
    monkeypatch.setattr(index_module, "RETRY_S", 0.001)


def on_dlq(headers: Headers, key: bytes | None = MESSAGE.key, timestamp_ms: int = 5) -> Message:
    return Message(ORDERS + DLQ_SUFFIX, 1, 7, key, MESSAGE.value, headers, timestamp_ms)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the condition is another task's progress
            await asyncio.sleep(0.001)


# -- one record --------------------------------------------------------------------------------------------------------


def test_a_letter_says_what_the_headers_say() -> None:
    headers = MESSAGE.headers + why(Park(MESSAGE, "malformed", "expected an int"), "exchange-gateway")
    letter = letter_of(on_dlq(headers))
    assert (letter.topic, letter.partition, letter.offset) == (ORDERS, 3, 2**40)
    assert (letter.code, letter.text, letter.consumer) == ("malformed", "expected an int", "exchange-gateway")
    assert (letter.order_id, letter.parked_us, letter.state, letter.replays) == (ORDER, 5_000, "parked", 0)
    assert letter.record is not None
    assert letter.record.headers == headers


def test_kafka_connects_headers_are_enough() -> None:
    said = (
        ("__connect.errors.partition", b"4"),
        ("__connect.errors.offset", b"99"),
        ("__connect.errors.connector.name", b"sink"),
        ("__connect.errors.exception.class.name", b"java.lang.Oops"),
        ("__connect.errors.exception.message", b"no"),
    )
    letter = letter_of(on_dlq(said))
    assert (letter.partition, letter.offset, letter.consumer) == (4, 99, "sink")
    assert (letter.code, letter.text) == ("java.lang.Oops", "no")


def test_without_headers_the_cause_is_unknown_and_the_topic_is_not() -> None:
    letter = letter_of(on_dlq((), None, timestamp_ms=-1))
    assert (letter.topic, letter.partition, letter.offset, letter.code) == (ORDERS, None, None, "unknown")
    assert (letter.order_id, letter.parked_us) == (None, 0)


def test_the_same_place_is_the_same_letter() -> None:
    assert letter_of(on_dlq(())).id == letter_of(on_dlq((("a", b"b"),))).id
    assert letter_of(on_dlq(())).id != letter_of(Message(ORDERS + DLQ_SUFFIX, 1, 8, None, None, (), 0)).id


@pytest.mark.parametrize(
    "key", [b"7", b"AAPL", b"", None, b"\xff" * 16, b"{" + ORDER.encode() + b"}", ORDER.replace("-", "").encode()]
)
def test_a_key_that_is_no_order_id_is_none(key: bytes | None) -> None:
    assert letter_of(on_dlq((), key)).order_id is None


NAMES = [name for name, _ in why(Park(MESSAGE, "c", "t"), "g")] + ["replays", "replayed-from"]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40))),
    st.none() | st.binary(max_size=40),
    st.integers(-(2**63), 2**63 - 1),
)
def test_no_record_stops_the_index(headers: list[tuple[str, bytes]], key: bytes | None, timestamp_ms: int) -> None:
    letter = letter_of(on_dlq(tuple(headers), key, timestamp_ms))
    assert moment(letter.parked_us) is not None
    assert letter.code
    assert all("\0" not in text for text in (letter.code, letter.text, letter.consumer))
    assert all(-(2**63) <= number < 2**63 for number in (letter.partition or 0, letter.offset or 0))


# -- the index ---------------------------------------------------------------------------------------------------------


class Stumbling(MemoryLetters):
    """A store that is away for the first few times."""

    def __init__(self, times: int = 0) -> None:
        super().__init__(ManualClock())
        self.times = times
        self.batches: list[int] = []

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        if self.times > 0:
            self.times -= 1
            raise psycopg.OperationalError("away")
        self.batches.append(len(letters))
        await super().add(letters)


def indexed(letters: Stumbling, count: int) -> Callable[[], bool]:
    return lambda: sum(letters.batches) >= count


async def test_every_dead_letter_topic_is_indexed_and_a_restart_goes_on() -> None:
    bus, letters = MemoryBus(ManualClock()), Stumbling()
    for topic in DLQ_TOPICS:
        bus.append(topic, b"k", b"v", ())
    async with background(index_part(bus, letters)):
        await until(indexed(letters, len(DLQ_TOPICS)))
    bus.append(ORDERS + DLQ_SUFFIX, b"k", b"later", ())
    async with background(index_part(bus, letters)):
        await until(indexed(letters, len(DLQ_TOPICS) + 1))
    assert sum(letters.batches) == len(DLQ_TOPICS) + 1, "what was committed is not read again"
    found = await letters.page(Filter(limit=500))
    assert {letter.dlq_topic for letter in found} == set(DLQ_TOPICS)


async def test_a_store_that_is_away_is_waited_for() -> None:
    bus, letters = MemoryBus(ManualClock()), Stumbling(times=3)
    await park(bus.producer(), "exchange-gateway", [Park(MESSAGE, "malformed", "no")])
    async with background(index_part(bus, letters)):
        await until(indexed(letters, 1))
    (letter,) = await letters.page(Filter())
    assert (letter.topic, letter.code, letter.consumer) == (ORDERS, "malformed", "exchange-gateway")


# -- replay ------------------------------------------------------------------------------------------------------------


class House:
    """Letters 0 … n-1 of one order, and the bus they go back to."""

    def __init__(self, count: int) -> None:
        clock = ManualClock()
        self.bus = MemoryBus(clock)
        self.letters = MemoryLetters(clock)
        self.ids: list[str] = []
        self.count = count
        self.replay = Replay(self.letters, self.bus.producer(), LocalTurn())

    async def filled(self) -> House:
        for number in range(self.count):
            message = Message(ORDERS, 3, number, MESSAGE.key, str(number).encode(), MESSAGE.headers, 1)
            headers = message.headers + why(Park(message, "malformed", "no"), "g")
            letter = letter_of(Message(ORDERS + DLQ_SUFFIX, 0, number, message.key, message.value, headers, 1))
            await self.letters.add([letter])
            self.ids.append(letter.id)
        return self

    async def sent(self) -> list[Message]:
        return await (await self.bus.read([ORDERS], "earliest")).batch(100, 0)

    async def states(self) -> list[str]:
        return [letter.state for letter in await self.letters.page(Filter(oldest_first=True))]


async def test_a_replayed_record_is_the_one_that_was_parked() -> None:
    house = await House(1).filled()
    (letter_id,) = house.ids
    assert await house.replay(OPERATOR, house.ids, 1000, "mended") == [Result(letter_id, "replayed", "replayed")]
    (again,) = await house.sent()
    assert (again.key, again.value) == (MESSAGE.key, b"0")
    assert again.headers == (*MESSAGE.headers, ("replayed-from", letter_id.encode()), ("replays", b"1"))
    found = await house.letters.find(letter_id)
    assert found is not None
    assert (found.state, found.state_by, found.state_reason) == ("replayed", "operator-1", "mended")


async def test_what_comes_back_again_is_counted_and_keeps_its_headers() -> None:
    house = await House(1).filled()
    await house.replay(OPERATOR, house.ids, 1000, "mended")
    (again,) = await house.sent()
    headers = again.headers + why(Park(again, "malformed", "still"), "g")
    second = letter_of(Message(ORDERS + DLQ_SUFFIX, 0, 1, again.key, again.value, headers, 1))
    assert second.replays == 1
    await house.letters.add([second])
    await house.replay(OPERATOR, [second.id], 1000, "mended better")
    assert (await house.sent())[1].headers == (
        *MESSAGE.headers,
        ("replayed-from", second.id.encode()),
        ("replays", b"2"),
    )


async def test_only_parked_letters_are_sent_and_the_order_is_kept() -> None:
    house = await House(4).filled()
    await house.letters.mark(OPERATOR, house.ids[1], "parked", "discarded", "no use")
    missing = letter_of(Message("x.dlq", 0, 0, None, None, (), 0)).id
    results = await house.replay(OPERATOR, [*house.ids, missing], 1000, "mended")
    assert [result.outcome for result in results] == ["replayed", "not_parked", "replayed", "replayed", "not_found"]
    assert [message.value for message in await house.sent()] == [b"0", b"2", b"3"]
    again = await house.replay(OPERATOR, house.ids, 1000, "mended")
    assert {result.outcome for result in again} == {"not_parked"}
    assert len(await house.sent()) == 3


async def test_a_bus_that_does_not_answer_ends_the_replay() -> None:
    house = await House(3).filled()
    results = await Replay(house.letters, Silent(house.bus), LocalTurn(), durable_s=0.001)(
        OPERATOR, house.ids, 1000, "mended"
    )
    assert [result.outcome for result in results] == ["unconfirmed", "not_tried", "not_tried"]
    assert await house.states() == ["parked"] * 3


async def test_it_goes_no_faster_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    house, pauses = await House(3).filled(), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("infra.dlq.replay.asyncio.sleep", sleep)
    await house.replay(OPERATOR, house.ids, 20, "mended")
    assert pauses == [0.05, 0.05]


async def test_two_replays_at_a_time_could_send_a_letter_twice_so_one_is_refused() -> None:
    house = await House(3).filled()
    first = asyncio.create_task(house.replay(OPERATOR, house.ids, 1000, "mended"))
    await asyncio.sleep(0)  # it has its turn now
    with pytest.raises(ReplayRunning):
        await house.replay(OPERATOR, house.ids, 1000, "mended")
    assert [result.outcome for result in await first] == ["replayed"] * 3
    assert [result.outcome for result in await house.replay(OPERATOR, house.ids, 1000, "more")] == ["not_parked"] * 3
    assert len(await house.sent()) == 3


class Silent(MemoryProducer):
    """A producer whose records are never acknowledged."""

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()
