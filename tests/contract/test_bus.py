"""What every bus does, in memory and on Kafka: one class of tests over both."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.bus import Bus, BusError, Message, Offsets, Subscription, TopicPartition, next_offsets
from infra.bus_kafka import KafkaBus
from infra.bus_memory import MemoryBus, partition_of
from infra.clock import SystemClock
from infra.contracts import Topic
from infra.settings import Infra

PARTITIONS = 8
DEADLINE_S = 30.0
# Shorter than Kafka's session timeout (6 s), after which a silent member would lose its partitions anyway.
AT_ONCE_S = 4.0


@dataclass
class Rig:
    """A bus with two topics of this test alone: eight partitions, and one."""

    bus: Bus
    topic: str
    single: str
    group: str = field(default_factory=lambda: f"group-{uuid.uuid4().hex[:8]}")

    async def send(self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        producer = self.bus.producer()
        await asyncio.gather(*[producer.send(topic, key, value) for key, value in records])
        await producer.close()

    async def numbered(self, topic: str, count: int, first: int = 0) -> None:
        """Values 0, 1, 2 … spread over the partitions by their own keys."""
        await self.send(topic, [(str(i).encode(), str(i).encode()) for i in range(first, first + count)])


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.real)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    topic, single = (f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("many", "single"))
    if request.param == "memory":
        declared = (Topic(topic, "key", "Many."), Topic(single, "key", "One."))
        sized = [Topic(t.name, t.key, t.doc, count) for t, count in zip(declared, (PARTITIONS, 1), strict=True)]
        yield Rig(MemoryBus(SystemClock(), sized), topic, single)
        return
    infra: Infra = request.getfixturevalue("servers")
    admin = AdminClient({"bootstrap.servers": infra.bootstrap})
    made = admin.create_topics([NewTopic(topic, PARTITIONS, 1), NewTopic(single, 1, 1)], operation_timeout=30)
    for done in made.values():
        done.result(30)
    while not {topic, single} <= admin.list_topics(timeout=30).topics.keys():
        pass
    yield Rig(KafkaBus(infra.bootstrap, "test"), topic, single)
    admin.delete_topics([topic, single])


async def taken(subscription: Subscription, count: int, messages_max: int = 100) -> list[Message]:
    """Exactly `count` messages, or a failed test."""
    found: list[Message] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                found += await subscription.batch(messages_max, 0.5)
    assert len(found) == count, f"{len(found)} messages of {count}: {[m.value for m in found]}"
    return found


async def quiet(subscription: Subscription) -> list[Message]:
    """What comes although nothing should."""
    return await subscription.batch(100, 0.5)


async def until(condition: Callable[[], bool], *steps: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.gather(*[step() for step in steps])


def values(messages: Iterable[Message]) -> set[bytes | None]:
    return {message.value for message in messages}


def numbers(count: int, first: int = 0) -> set[bytes | None]:
    return {str(i).encode() for i in range(first, first + count)}


class Member:
    """A group member that reads in the background and remembers whose messages it saw."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.seen: list[Message] = []

    async def step(self) -> None:
        self.seen += await self.subscription.batch(100, 0.1)

    @property
    def partitions(self) -> set[int]:
        return {message.partition for message in self.seen}


class TestEveryBus:
    async def test_places_keys_as_kafka_does(self, rig: Rig) -> None:
        keys = [
            b"",
            b"A",
            b"AB",
            b"ABC",
            b"AAPL",
            "ключ".encode(),
            b"\xff" * 7,
            *(uuid.uuid4().bytes for _ in range(40)),
        ]
        await rig.send(rig.topic, [(key, b"") for key in keys])
        found = await taken(await rig.bus.read([rig.topic], "earliest"), len(keys))
        assert {m.key: m.partition for m in found} == {key: partition_of(key, PARTITIONS) for key in keys}

    async def test_keeps_the_order_of_each_key(self, rig: Rig) -> None:
        sent = [(f"key-{i % 20}".encode(), str(i).encode()) for i in range(1000)]
        await rig.send(rig.topic, sent)
        found = await taken(await rig.bus.read([rig.topic], "earliest"), 1000)
        for key in {key for key, _ in sent}:
            assert [m.value for m in found if m.key == key] == [value for k, value in sent if k == key]

    async def test_carries_bytes_untouched(self, rig: Rig) -> None:
        headers = (("event-id", b"\x00\xff"), ("empty", b""), ("twice", b"1"), ("twice", b"2"))
        producer = rig.bus.producer()
        await producer.send(rig.single, b"\xfe", b"\x00\x01", headers)
        await producer.send(rig.single, None, None)
        first, second = await taken(await rig.bus.read([rig.single], "earliest"), 2)
        assert (first.key, first.value, first.headers) == (b"\xfe", b"\x00\x01", headers)
        assert (first.header("twice"), first.header("none")) == (b"2", None)
        assert (second.key, second.value, second.headers) == (None, None, ())
        assert (first.topic, first.partition, first.offset, second.offset) == (rig.single, 0, 0, 1)
        assert abs(first.timestamp_ms - SystemClock().now_ns() // 1_000_000) < 60_000
        await producer.close()

    async def test_a_group_resumes_where_it_committed(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 40)
        subscription = await rig.bus.subscribe([rig.topic], rig.group)
        done = await taken(subscription, 40)
        await subscription.commit(next_offsets(done))
        await rig.numbered(rig.topic, 10, first=40)
        await taken(subscription, 10)
        await subscription.close()
        again = await rig.bus.subscribe([rig.topic], rig.group)
        assert values(await taken(again, 10)) == numbers(10, first=40)
        await again.close()

    async def test_a_new_group_starts_at_the_beginning(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 10)
        subscription = await rig.bus.subscribe([rig.topic], rig.group)
        assert values(await taken(subscription, 10)) == numbers(10)
        await subscription.close()

    async def test_reads_from_the_beginning_without_a_group(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 10)
        for _ in range(2):
            subscription = await rig.bus.read([rig.topic, rig.single], "earliest")
            found = await taken(subscription, 10)
            await subscription.commit(next_offsets(found))
            await subscription.close()

    async def test_latest_is_fixed_when_read_returns(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 10)
        subscription = await rig.bus.read([rig.topic], "latest")
        await rig.numbered(rig.topic, 10, first=10)
        assert values(await taken(subscription, 10)) == numbers(10, first=10)
        assert await quiet(subscription) == []
        await subscription.close()

    async def test_reads_from_offsets(self, rig: Rig) -> None:
        await rig.numbered(rig.single, 10)
        await rig.numbered(rig.topic, 5)
        places = {TopicPartition(rig.single, 0): 7}
        found = await taken(await rig.bus.read([rig.single, rig.topic], places), 8)
        assert [m.offset for m in found if m.topic == rig.single] == [7, 8, 9]
        assert values(m for m in found if m.topic == rig.topic) == numbers(5)

    async def test_an_offset_that_is_not_there_means_earliest(self, rig: Rig) -> None:
        await rig.numbered(rig.single, 3)
        subscription = await rig.bus.read([rig.single], {TopicPartition(rig.single, 0): 1000})
        assert [m.offset for m in await taken(subscription, 3)] == [0, 1, 2]

    async def test_whoever_is_assigned_may_choose_the_start(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 80)
        asked: list[TopicPartition] = []

        async def on_assigned(places: list[TopicPartition]) -> Offsets:
            asked.extend(places)
            return {place: 3 for place in places if place.partition < 4}

        subscription = await rig.bus.subscribe([rig.topic], rig.group, on_assigned)
        everything = await taken(await rig.bus.read([rig.topic], "earliest"), 80)
        wanted = {m.value for m in everything if m.partition >= 4 or m.offset >= 3}
        assert values(await taken(subscription, len(wanted))) == wanted
        assert {place.partition for place in asked} == set(range(PARTITIONS))
        await subscription.close()

    async def test_a_failing_on_assigned_is_told_and_asked_again(self, rig: Rig) -> None:
        await rig.numbered(rig.single, 5)
        attempts = itertools.count()

        async def on_assigned(places: list[TopicPartition]) -> Offsets:
            if next(attempts) == 0:
                raise ConnectionError("the store is away")
            return dict.fromkeys(places, 2)

        subscription = await rig.bus.subscribe([rig.single], rig.group, on_assigned)
        with pytest.raises(ConnectionError):
            await taken(subscription, 5)
        assert [m.offset for m in await taken(subscription, 3)] == [2, 3, 4]
        await subscription.close()

    async def test_two_members_share_and_take_over(self, rig: Rig) -> None:
        one, two = [Member(await rig.bus.subscribe([rig.topic], rig.group)) for _ in range(2)]
        await until(lambda: True, one.step, two.step)
        await _balanced(rig, one, two)
        assert one.partitions.isdisjoint(two.partitions)
        assert one.partitions | two.partitions == set(range(PARTITIONS))
        began_s = SystemClock().monotonic_s()
        await two.subscription.close()
        one.seen.clear()
        await rig.numbered(rig.topic, 100, first=1000)
        await until(lambda: numbers(100, first=1000) <= values(one.seen), one.step)
        assert SystemClock().monotonic_s() - began_s < AT_ONCE_S
        await one.subscription.close()

    async def test_a_late_commit_does_not_undo_the_new_owners(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 100)
        one = Member(await rig.bus.subscribe([rig.topic], rig.group))
        await until(lambda: len(one.seen) == 100, one.step)
        stale = dict.fromkeys(next_offsets(one.seen), 1)
        two = Member(await rig.bus.subscribe([rig.topic], rig.group))
        await _balanced(rig, one, two)
        await two.subscription.commit(next_offsets(two.seen))
        await one.subscription.commit(next_offsets(one.seen))
        await one.subscription.commit({p: n for p, n in stale.items() if p.partition in two.partitions})
        await asyncio.gather(one.subscription.close(), two.subscription.close())
        third = await rig.bus.subscribe([rig.topic], rig.group)
        assert await quiet(third) == []
        await third.close()

    async def test_a_topic_that_does_not_exist(self, rig: Rig) -> None:
        with pytest.raises(BusError):
            await rig.bus.read(["no-such-topic"], "earliest")
        with pytest.raises(BusError):
            await rig.bus.subscribe([rig.single, "no-such-topic"], rig.group)
        producer = rig.bus.producer()
        with pytest.raises(BusError):
            await producer.send("no-such-topic", b"", b"")
        await producer.send(rig.single, b"", b"")
        await producer.close()

    async def test_a_batch_returns_with_the_first_message(self, rig: Rig) -> None:
        subscription = await rig.bus.read([rig.single], "latest")
        waiting = asyncio.create_task(subscription.batch(1000, 20.0))
        began_s = SystemClock().monotonic_s()
        await rig.numbered(rig.single, 1)
        assert values(await waiting) == numbers(1)
        assert SystemClock().monotonic_s() - began_s < AT_ONCE_S

    async def test_a_batch_is_empty_when_its_time_is_up(self, rig: Rig) -> None:
        subscription = await rig.bus.read([rig.single], "latest")
        began_s = SystemClock().monotonic_s()
        assert await subscription.batch(10, 0.25) == []
        assert 0.2 < SystemClock().monotonic_s() - began_s < AT_ONCE_S
        assert await subscription.batch(10, 0) == []

    async def test_a_batch_is_not_larger_than_asked(self, rig: Rig) -> None:
        await rig.numbered(rig.topic, 50)
        subscription = await rig.bus.read([rig.topic], "earliest")
        found: list[Message] = []
        while len(found) < 50:
            batch = await subscription.batch(7, 1.0)
            assert len(batch) <= 7
            found += batch
        assert values(found) == numbers(50)

    async def test_a_cancelled_batch_loses_nothing(self, rig: Rig) -> None:
        subscription = await rig.bus.subscribe([rig.topic], rig.group)
        sending = asyncio.create_task(rig.numbered(rig.topic, 300))
        found: list[Message] = []
        for _ in range(50):
            batch = asyncio.create_task(subscription.batch(3, 0.05))
            await asyncio.wait({batch}, timeout=0.002)
            batch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                found += await batch
        await sending
        found += await taken(subscription, 300 - len(found))
        assert sorted(m.value or b"" for m in found) == sorted(str(i).encode() for i in range(300))
        await subscription.close()

    async def test_a_closed_member_leaves_its_partitions_at_once(self, rig: Rig) -> None:
        await rig.numbered(rig.single, 5)
        holder = await rig.bus.subscribe([rig.single], rig.group)
        await taken(holder, 5)
        await holder.close()
        began_s = SystemClock().monotonic_s()
        heir = await rig.bus.subscribe([rig.single], rig.group)
        assert values(await taken(heir, 5)) == numbers(5)
        assert SystemClock().monotonic_s() - began_s < AT_ONCE_S
        await heir.close()

    async def test_closing_twice_and_using_what_is_closed(self, rig: Rig) -> None:
        subscription = await rig.bus.subscribe([rig.single], rig.group)
        producer = rig.bus.producer()
        for _ in range(2):
            await subscription.close()
            await producer.close()
        with pytest.raises(BusError):
            await subscription.batch(1, 0)
        with pytest.raises(BusError):
            producer.send(rig.single, b"", b"")
        await subscription.commit({TopicPartition(rig.single, 0): 1})

    async def test_closing_a_producer_delivers_what_it_was_given(self, rig: Rig) -> None:
        producer = rig.bus.producer(linger_ms=200)
        sent = [producer.send(rig.topic, str(i).encode(), str(i).encode()) for i in range(500)]
        await producer.close()
        assert all(sending.done() and sending.exception() is None for sending in sent)
        assert values(await taken(await rig.bus.read([rig.topic], "earliest"), 500)) == numbers(500)

    async def test_posted_records_are_told_once_each_and_keep_the_order_of_their_keys(self, rig: Rig) -> None:
        producer = rig.bus.producer()
        told: list[tuple[int, BusError | None]] = []
        for i in range(200):
            delivered = functools.partial(lambda i, error: told.append((i, error)), i)
            producer.post(rig.topic, str(i % 3).encode(), str(i).encode(), (("n", b"1"),), delivered)
        await producer.close()
        await asyncio.sleep(0)
        assert sorted(told) == [(i, None) for i in range(200)]
        found = await taken(await rig.bus.read([rig.topic], "earliest"), 200)
        for key in (b"0", b"1", b"2"):
            numbered = [int(m.value or b"") for m in found if m.key == key]
            assert numbered == sorted(numbered)

    async def test_the_ends_are_what_a_reader_of_everything_reaches(self, rig: Rig) -> None:
        assert await rig.bus.ends([rig.topic, rig.single]) == {}
        await rig.numbered(rig.topic, 20)
        await rig.send(rig.single, [(b"k", b"1"), (b"k", None)])
        ends = await rig.bus.ends([rig.topic, rig.single])
        subscription = await rig.bus.read([rig.topic, rig.single], "earliest")
        assert next_offsets(await taken(subscription, 22)) == ends
        await subscription.close()
        with pytest.raises(BusError):
            await rig.bus.ends(["never-declared"])


async def _balanced(rig: Rig, one: Member, two: Member) -> None:
    """Send until both members were seen to read, each its own half, in one and the same generation."""
    async with asyncio.timeout(DEADLINE_S):
        for first in itertools.count(10_000, 100):
            one.seen, two.seen = [], []
            await rig.numbered(rig.topic, 100, first=first)
            wanted = numbers(100, first)
            while not wanted <= values(one.seen) | values(two.seen):
                await asyncio.gather(one.step(), two.step())
            if len(one.seen) + len(two.seen) == 100 and one.seen and two.seen:
                return
