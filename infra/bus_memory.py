"""The bus in one process's memory: the twin of `bus_kafka`, for demos and fast tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.bus import BusError, Message, Offsets, OnAssigned, Start, TopicPartition
from infra.clock import NS_PER_MS, Clock
from infra.contracts import TOPICS, Headers, Topic


class MemoryBus:
    """Logs as lists. Only declared topics exist, as on the real bus.

    `retained_max` bounds the records kept per partition; what is older is gone, as after a topic's retention.
    """

    def __init__(self, clock: Clock, topics: Iterable[Topic] = TOPICS, retained_max: int = 200_000) -> None:
        self._clock = clock
        self._retained_max = retained_max
        self._logs = {TopicPartition(t.name, p): _Log() for t in topics for p in range(t.partitions)}
        self._partitions = {t.name: t.partitions for t in topics}
        self._groups: dict[str, _Group] = {}
        self._changed = asyncio.Event()

    def producer(self, linger_ms: int = 0) -> MemoryProducer:
        return MemoryProducer(self)

    async def subscribe(
        self, topics: Iterable[str], group: str, on_assigned: OnAssigned | None = None
    ) -> MemorySubscription:
        members = self._groups.setdefault(group, _Group())
        subscription = MemorySubscription(self, self._places(topics), members, on_assigned)
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
            positions = {place: start.get(place, 0) for place in places}
        subscription = MemorySubscription(self, places, None, None)
        subscription.positions = positions
        return subscription

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
        self.wake()

    def log(self, place: TopicPartition) -> _Log:
        return self._logs[place]

    def wake(self) -> None:
        self._changed.set()

    async def wait_for_change(self, timeout_s: float) -> bool:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def _places(self, topics: Iterable[str]) -> list[TopicPartition]:
        wanted = list(topics)
        if unknown := [name for name in wanted if name not in self._partitions]:
            raise BusError(f"topic {unknown[0]} does not exist")
        return [TopicPartition(name, p) for name in wanted for p in range(self._partitions[name])]


def partition_of(key: bytes | None, partitions: int) -> int:
    """Kafka's default partitioner for keyed records (murmur2), so that twins place keys as the real bus does."""
    return (_murmur2(key) & 0x7FFF_FFFF) % partitions if key is not None else 0


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
    generation: int = 0


class MemoryProducer:
    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bus.append(topic, key, value, headers)
        done.set_result(None)
        return done

    async def close(self) -> None:
        return None


class MemorySubscription:
    """Reads its share of the partitions; in a group the share changes when members come and go."""

    def __init__(
        self, bus: MemoryBus, places: list[TopicPartition], group: _Group | None, on_assigned: OnAssigned | None
    ) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self._bus = bus
        self._places = places
        self._group = group
        self._on_assigned = on_assigned
        self._generation = -1
        self._turn = 0
        self._closed = False

    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        if self._closed:
            raise BusError("the subscription is closed")
        await self._rebalance()
        messages = self._take(messages_max)
        if not messages and await self._bus.wait_for_change(wait_s):
            await self._rebalance()
            messages = self._take(messages_max)
        await asyncio.sleep(0)
        return messages

    async def commit(self, offsets: Offsets) -> None:
        if self._group is not None:
            mine = {place: offset for place, offset in offsets.items() if place in self.positions}
            self._group.committed.update(mine)

    async def close(self) -> None:
        if self._group is not None and not self._closed:
            self._group.members.remove(self)
            self._group.generation += 1
            self._bus.wake()
        self._closed = True

    async def _rebalance(self) -> None:
        if self._group is None or self._generation == self._group.generation:
            return
        self._generation = self._group.generation
        members = self._group.members
        rank = members.index(self)
        mine = [place for i, place in enumerate(self._places) if i % len(members) == rank]
        fresh = [place for place in mine if place not in self.positions]
        start = dict(await self._on_assigned(fresh)) if self._on_assigned and fresh else {}
        committed = self._group.committed
        self.positions = {place: self.positions.get(place, start.get(place, committed.get(place, 0))) for place in mine}

    def _take(self, messages_max: int) -> list[Message]:
        """Round robin over partitions, so that a busy one does not starve the others."""
        taken: list[Message] = []
        places = list(self.positions)
        for i in range(len(places)):
            place = places[(self._turn + i) % len(places)]
            found = self._bus.log(place).slice(self.positions[place], messages_max - len(taken))
            if found:
                self.positions[place] = found[-1].offset + 1
                taken += found
            if len(taken) >= messages_max:
                break
        self._turn += 1
        return taken
