"""What a process meets outside itself, on a bad day: a database and a bus that are late, away, or lose an answer.

Each wraps a twin for one life of one process. What a write did stays done when its answer is lost, as with a
connection that breaks during a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from exchange_gateway.stream import OPEN
from infra.bus import BusError, Message, Offsets, OnAssigned, Start, Subscription
from infra.bus_memory import MemoryBus, MemoryProducer
from infra.cache import CacheDown
from infra.cache_memory import MemoryCache
from infra.clock import Clock
from infra.principal import Principal
from order_service.store.memory import MemoryOrders
from order_service.store.unit import Unit, Want
from outbox_relay.relay import Entry, Source
from outbox_relay.source_memory import MemoryReader

T = TypeVar("T")
# Looks for news are woken by news; the pause between two vain ones is stretched, for each costs as much as an order.
IDLE_S = 2.0


@dataclass(slots=True)
class Weather:
    """How bad the day is: chances per call, times `strength`. `fair` ends all of it. `late_s` is the usual latency, at
    most."""

    random: Random
    strength: float = 1.0
    store_away: float = 0.01
    answer_lost: float = 0.01
    bus_away: float = 0.003
    cache_away: float = 0.05
    late_s: float = 0.004
    very_late: float = 0.01
    very_late_s: float = 1.5
    fair: bool = False

    def strikes(self, chance: float) -> bool:
        return not self.fair and self.random.random() < chance * self.strength

    def delay_s(self) -> float:
        most_s = self.very_late_s if self.strikes(self.very_late) else self.late_s
        return self.random.random() * most_s


class Flaky:
    """Any other adapter of the database: each call may find it away."""

    def __init__(self, inner: object, weather: Weather) -> None:
        self._inner = inner
        self._weather = weather

    def __getattr__(self, name: str) -> Any:
        method, weather = getattr(self._inner, name), self._weather

        async def call(*args: Any, **named: Any) -> Any:
            if weather.strikes(weather.store_away):
                raise ConnectionError("the database is away")
            return await method(*args, **named)

        return call


class FlakyStore:
    """MemoryOrders as one process sees it. Reads pass through."""

    def __init__(self, store: MemoryOrders, weather: Weather) -> None:
        self._store = store
        self._weather = weather

    async def write(self, asker: Principal, want: Want, decide: Callable[[Unit], T]) -> T:
        weather = self._weather
        await asyncio.sleep(weather.delay_s())
        if weather.strikes(weather.store_away):
            raise ConnectionError("the database is away")
        decided = await self._store.write(asker, want, decide)
        if weather.strikes(weather.answer_lost):
            raise ConnectionError("the connection was lost during the commit")
        return decided

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class FlakyBus:
    """MemoryBus as one process sees it. `left` lets the group have the partitions of a process that died."""

    def __init__(self, bus: MemoryBus, weather: Weather) -> None:
        self._bus = bus
        self._weather = weather
        self._subscriptions: list[Subscription] = []

    def producer(self, linger_ms: int = 0) -> MemoryProducer:
        return self._bus.producer(linger_ms)

    async def subscribe(
        self, topics: Iterable[str], group: str, on_assigned: OnAssigned | None = None
    ) -> FlakySubscription:
        inner = await self._bus.subscribe(topics, group, on_assigned)
        self._subscriptions.append(inner)
        return FlakySubscription(inner, self._weather)

    async def read(self, topics: Iterable[str], start: Start | Offsets) -> FlakySubscription:
        return FlakySubscription(await self._bus.read(topics, start), self._weather)

    async def ends(self, topics: Iterable[str]) -> Offsets:
        return await self._bus.ends(topics)

    async def left(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()


class FlakySubscription:
    def __init__(self, inner: Subscription, weather: Weather) -> None:
        self._inner = inner
        self._weather = weather

    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        if self._weather.strikes(self._weather.bus_away):
            raise BusError("the bus is away")
        return await self._inner.batch(messages_max, max(wait_s, IDLE_S))

    async def commit(self, offsets: Offsets) -> None:
        if self._weather.strikes(self._weather.bus_away):
            raise BusError("the bus is away")
        await self._inner.commit(offsets)

    async def close(self) -> None:
        await self._inner.close()


class FlakyReader:
    """The relay's way to open the outbox; the source that it opens loses its connection now and then."""

    def __init__(self, reader: MemoryReader, weather: Weather) -> None:
        self._reader = reader
        self._weather = weather

    @contextlib.asynccontextmanager
    async def open(self, stop: asyncio.Event) -> AsyncIterator[Source | None]:
        async with self._reader.open(stop) as source:
            yield None if source is None else _FlakySource(source, self._weather)


class _FlakySource:
    def __init__(self, source: Source, weather: Weather) -> None:
        self._source = source
        self._weather = weather

    async def entries(self, wait_s: float) -> list[Entry]:
        if self._weather.strikes(self._weather.store_away):
            raise ConnectionError("the replication connection is lost")
        return await self._source.entries(max(wait_s, IDLE_S))

    async def confirm(self, position: int) -> None:
        await self._source.confirm(position)


class FlakyCache(MemoryCache):
    """Redis on a bad day: away, or flushed."""

    def __init__(self, clock: Clock, weather: Weather) -> None:
        super().__init__(clock)
        self._weather = weather

    async def get(self, key: str) -> bytes | None:
        self._check()
        return await super().get(key)

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        self._check()
        return await super().put(key, value, ttl_s, only_new)

    def _check(self) -> None:
        if self._weather.strikes(self._weather.cache_away):
            raise CacheDown("away")
        if self._weather.strikes(self._weather.cache_away / 4):
            self._values.clear()


class SilentFeed:
    """No market data: the world itself puts quotes on the bus."""

    async def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        del session, after
        yield OPEN
        await asyncio.Event().wait()
