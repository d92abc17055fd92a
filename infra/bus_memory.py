"""The bus in one process's memory: the twin of `bus_kafka`, for demos and fast tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from infra.bus import BusError, Delivered, Message, Offsets, OnAssigned, Start, TopicPartition
from infra.clock import NS_PER_MS, Clock
from infra.contracts import TOPICS, Headers, Topic


class MemoryBus:
    """Logs as lists. Only declared topics exist, as on the real bus.

    `retained_max` bounds the records kept per partition; what is older is gone, as after a topic's retention.
    """

    def __init__(self, clock: Clock, topics: Iterable[Topic] = TOPICS, retained_max: int = 200_000) -> None:
        declared = tuple(topics)
        self._clock = clock
        self._retained_max = retained_max
        self._logs = {TopicPartition(t.name, p): _Log() for t in declared for p in range(t.partitions)}
        self._partitions = {t.name: t.partitions for t in declared}
        self._groups: dict[str, _Group] = {}
        # Dicts, not sets: who waits is woken in the order in which it came, so that a seed replays a run.
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {t.name: {} for t in declared}

    def producer(self, linger_ms: int = 0) -> MemoryProducer:
        return MemoryProducer(self)

    async def subscribe(
        self, topics: Iterable[str], group: str, on_assigned: OnAssigned | None = None
    ) -> MemorySubscription:
        places = self._places(topics)
        members = self._groups.setdefault(group, _Group())
        subscription = MemorySubscription(self, places, members, on_assigned)
        members.members.append(subscription)
        members.generation += 1
        return subscription

    async def read(self, topics: Iterable[str], start: Start | Offsets) -> MemorySubscription:
        places = self._places(topics)
        if start == "latest":
            positions = {place: self._logs[place].end for place in places}
        elif start == "earliest":
            positions = dict.fromkeys(places, 0)
        else:
            positions = {place: self.found(place, start.get(place, 0)) for place in places}
        subscription = MemorySubscription(self, places, None, None)
        subscription.positions = positions
        return subscription

    async def ends(self, topics: Iterable[str]) -> Offsets:
        return {place: self._logs[place].end for place in self._places(topics) if self._logs[place].records}

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        if topic not in self._partitions:
            raise BusError(f"topic {topic} does not exist")
        place = TopicPartition(topic, partition_of(key, self._partitions[topic]))
        log = self._logs[place]
        now_ms = self._clock.now_ns() // NS_PER_MS
        log.records.append(Message(topic, place.partition, log.end, key, value, headers, now_ms))
        if len(log.records) > self._retained_max:
            dropped = self._retained_max // 10 or 1
            del log.records[:dropped]
            log.start += dropped
        self.wake([topic])

    def log(self, place: TopicPartition) -> _Log:
        return self._logs[place]

    def found(self, place: TopicPartition, offset: int) -> int:
        """The offset, or the earliest one where it does not exist."""
        log = self._logs[place]
        return offset if log.start <= offset <= log.end else log.start

    def wake(self, topics: Iterable[str] | None = None) -> None:
        """Only who reads one of these topics: a process that reads others need not look."""
        for topic in self._waiting if topics is None else topics:
            waiting, self._waiting[topic] = self._waiting[topic], {}
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait_for_change(self, topics: Iterable[str], timeout_s: float) -> None:
        # The waiter is there before this coroutine first gives way, so no change between a look and the wait is missed.
        waiter = asyncio.get_running_loop().create_future()
        for topic in topics:
            self._waiting[topic][waiter] = None
        try:
            # Not wait_for: before Python 3.12 it can lose a cancellation that meets the change.
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return
        finally:
            for topic in topics:
                self._waiting[topic].pop(waiter, None)

    def _places(self, topics: Iterable[str]) -> list[TopicPartition]:
        wanted = list(topics)
        if unknown := [name for name in wanted if name not in self._partitions]:
            raise BusError(f"topic {unknown[0]} does not exist")
        return [TopicPartition(name, p) for name in wanted for p in range(self._partitions[name])]


def partition_of(key: bytes | None, partitions: int) -> int:
    """Kafka's default partitioner for keyed records (murmur2), so that twins place keys as the real bus does."""
    return (_murmur2(key) & 0x7FFF_FFFF) % partitions if key is not None else 0


@lru_cache(maxsize=65_536)
def _murmur2(data: bytes) -> int:
    """32-bit MurmurHash2 with the seed of Kafka's Java client (org.apache.kafka.common.utils.Utils)."""
    mask, m, length = 0xFFFF_FFFF, 0x5BD1_E995, len(data)
    h = 0x9747_B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@dataclass(slots=True)
class _Log:
    records: list[Message] = field(default_factory=list)
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def slice(self, offset: int, count: int) -> list[Message]:
        first = max(offset, self.start) - self.start
        return self.records[first : first + count]


@dataclass(slots=True)
class _Group:
    members: list[MemorySubscription] = field(default_factory=list)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    owners: dict[TopicPartition, MemorySubscription] = field(default_factory=dict)
    generation: int = 0

    def share(self, member: MemorySubscription) -> list[TopicPartition]:
        """The member's partitions of each topic: every n-th, among those who asked for the topic."""
        mine = []
        for i, place in enumerate(member.places):
            asking = [other for other in self.members if place in other.places]
            if asking[i % len(asking)] is member:
                mine.append(place)
        return mine


class MemoryProducer:
    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._closed = False

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        if self._closed:
            raise BusError("the producer is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._bus.append(topic, key, value, headers)
        except BusError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done

    def post(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, delivered: Delivered) -> None:
        def settled(sending: asyncio.Future[None]) -> None:
            error = sending.exception()
            delivered(error if isinstance(error, BusError) else None)

        self.send(topic, key, value, headers).add_done_callback(settled)

    async def close(self) -> None:
        self._closed = True


class MemorySubscription:
    """Reads its share of the partitions; in a group the share changes when members come and go."""

    def __init__(
        self, bus: MemoryBus, places: list[TopicPartition], group: _Group | None, on_assigned: OnAssigned | None
    ) -> None:
        self.places = dict.fromkeys(places)
        self._topics = tuple({place.topic: None for place in places})
        self.positions: dict[TopicPartition, int] = {}
        self._bus = bus
        self._group = group
        self._on_assigned = on_assigned
        self._generation = -1
        self._turn = 0
        self._closed = False

    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        if self._closed:
            raise BusError("the subscription is closed")
        # The only pause after which messages are taken comes before taking them: a cancelled call loses none.
        await asyncio.sleep(0)
        await self._rebalance()
        messages = self._take(messages_max)
        if not messages:
            await self._bus.wait_for_change(self._topics, wait_s)
            await self._rebalance()
            messages = self._take(messages_max)
        return messages

    async def commit(self, offsets: Offsets) -> None:
        if self._group is not None:
            owners = self._group.owners
            self._group.committed.update({p: offset for p, offset in offsets.items() if owners.get(p) is self})

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._group is not None:
            self._group.members.remove(self)
            self._group.owners = {p: owner for p, owner in self._group.owners.items() if owner is not self}
            self._group.generation += 1
        self._bus.wake(self._topics)

    async def _rebalance(self) -> None:
        group = self._group
        while group is not None and not self._closed and self._generation != group.generation:
            generation, mine = group.generation, group.share(self)
            fresh = [place for place in mine if group.owners.get(place) is not self]
            start = dict(await self._on_assigned(fresh)) if self._on_assigned and fresh else {}
            if generation != group.generation:
                continue
            self._generation = generation
            for place in self.positions.keys() - set(mine):
                # Whoever gets it next, this member too, begins anew at what was committed.
                if group.owners.get(place) is self:
                    del group.owners[place]
            group.owners.update(dict.fromkeys(fresh, self))
            for place in fresh:
                self.positions[place] = self._bus.found(place, start.get(place, group.committed.get(place, 0)))
            self.positions = {place: self.positions[place] for place in mine}

    def _take(self, messages_max: int) -> list[Message]:
        """Round robin over partitions, so that a busy one does not starve the others."""
        taken: list[Message] = []
        places = list(self.positions)
        for i in range(len(places)):
            if len(taken) >= messages_max or self._closed:
                break
            place = places[(self._turn + i) % len(places)]
            found = self._bus.log(place).slice(self.positions[place], messages_max - len(taken))
            if found:
                self.positions[place] = found[-1].offset + 1
                taken += found
        self._turn += 1
        return taken
