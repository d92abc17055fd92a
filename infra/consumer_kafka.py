"""The consumer's side of the bus on Kafka: one client and one thread that owns it per subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import confluent_kafka as kafka
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from infra.bus import BusError, Message, Offsets, OnAssigned, Start, TopicPartition
from infra.clock import SystemClock

log = structlog.get_logger(__name__)
R = TypeVar("R")

ASK_TIMEOUT_S = 10.0
ASK_AGAIN_S = 0.05
NOTE_AGAIN_S = 10.0
# The longest that a consumer's thread is deaf to a close.
POLL_S_MAX = 0.1
# A commit that comes after its partitions went to another member: the new owner reads again and dedupes.
_LOST = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._STATE,
}
# What brokers say of a topic that was made a moment ago: it exists once all of them have heard of it, and a partition
# can be asked once its leader knows that it is one. How long each may take, in seconds.
_FRESH_S_MAX: dict[int | None, float] = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: 2.0,
    KafkaError.LEADER_NOT_AVAILABLE: 15.0,
    KafkaError.NOT_LEADER_FOR_PARTITION: 15.0,
}
# The client goes on by itself after these. _MAX_POLL_EXCEEDED: a batch took so long that the group went on without us.
_TRANSIENT = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._PARTITION_EOF,
}


class KafkaSubscription:
    """One consumer, used from one thread of its own only."""

    def __init__(self, settings: dict[str, Any], in_group: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-consumer")
        self._consumer = Consumer(settings | {"error_cb": Notes()})
        self._in_group = in_group
        self._pending: asyncio.Future[list[Message]] | None = None
        self._on_assigned: OnAssigned | None = None
        self._unplaced: list[Place] = []
        self._trouble: BusError | None = None
        self._closed = False

    async def opened(self, start: Coroutine[Any, Any, None]) -> KafkaSubscription:
        """Itself once `start` is done; closed when that fails."""
        try:
            await start
        except BaseException:
            await self.close()
            raise
        return self

    async def join(self, topics: list[str], on_assigned: OnAssigned | None) -> None:
        self._on_assigned = on_assigned

        def start() -> None:
            for topic in topics:
                self._partitions(topic)
            self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked)

        await self._patiently(start)

    async def assign(self, topics: list[str], start: Start | Offsets) -> None:
        await self._patiently(lambda: self._consumer.assign([p for t in topics for p in self._places(t, start)]))

    async def ends(self, topics: list[str]) -> Offsets:
        found: dict[TopicPartition, int] = {}

        def ask() -> None:
            for place in (TopicPartition(topic, number) for topic in topics for number in self._partitions(topic)):
                low, high = self._consumer.get_watermark_offsets(Place(*place), ASK_TIMEOUT_S)
                if low < high:
                    found[place] = high

        await self._patiently(ask)
        return found

    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        if self._closed:
            raise BusError("the subscription is closed")
        # A cancelled caller must not lose what the thread is just reading: the next call takes it over.
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._do(lambda: self._poll(messages_max, wait_s)))
        try:
            messages = await asyncio.shield(self._pending)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return messages

    async def commit(self, offsets: Offsets) -> None:
        places = [Place(p.topic, p.partition, offset) for p, offset in offsets.items()]
        if places and self._in_group and not self._closed:
            await self._do(lambda: self._commit(places))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._do(self._consumer.close)
        self._thread.shutdown(wait=False)
        if self._pending is not None:
            await asyncio.gather(self._pending, return_exceptions=True)

    async def _patiently(self, call: Callable[[], None]) -> None:
        began_s = self._clock.monotonic_s()
        while True:
            try:
                return await self._do(call)
            except BusError as error:
                code = error.__cause__.args[0].code() if isinstance(error.__cause__, KafkaException) else None
                if self._clock.monotonic_s() - began_s >= _FRESH_S_MAX.get(code, 0.0):
                    raise
                log.info("topic_not_ready", error=str(error))
            await asyncio.sleep(ASK_AGAIN_S)

    async def _do(self, call: Callable[[], R]) -> R:
        try:
            return await self._loop.run_in_executor(self._thread, call)
        except KafkaException as error:
            raise BusError(str(error)) from error

    # -- from here on: the consumer's own thread -----------------------------------------------------------------------

    def _assigned(self, consumer: Consumer, places: list[Place]) -> None:
        self._unplaced = places
        if self._on_assigned is None:
            self._place()
        else:
            # Asking can fail, and an exception here would start the partitions at the group's offsets: `_poll` asks.
            consumer.assign([])

    def _revoked(self, _: Consumer, places: list[Place]) -> None:
        self._unplaced = []
        log.info("partitions_revoked", partitions=[f"{p.topic}/{p.partition}" for p in places])

    def _place(self) -> None:
        """Start reading the new partitions. What `on_assigned` raises reaches the caller; the next batch asks again."""
        places = self._unplaced
        if self._on_assigned is not None:
            asked = _awaited(self._on_assigned, [TopicPartition(p.topic, p.partition) for p in places])
            asking = asyncio.run_coroutine_threadsafe(asked, self._loop)
            try:
                starts = asking.result(ASK_TIMEOUT_S)
            except TimeoutError as error:
                raise BusError("where to start reading was not said in time") from error
            finally:
                asking.cancel()
            for place in places:
                if (offset := starts.get(TopicPartition(place.topic, place.partition))) is not None:
                    place.offset = offset
        self._consumer.assign(places)
        self._unplaced = []
        log.info("partitions_assigned", partitions=[f"{p.topic}/{p.partition}" for p in places])

    def _poll(self, messages_max: int, wait_s: float) -> list[Message]:
        until_s = self._clock.monotonic_s() + wait_s
        while not self._closed:
            self._raise_trouble()
            if self._unplaced:
                self._place()
            left_s = max(0.0, until_s - self._clock.monotonic_s())
            # consume(n, timeout) waits out its timeout unless n came; poll returns with the first.
            first = self._consumer.poll(min(left_s, POLL_S_MAX))
            if first is not None:
                more = self._consumer.consume(messages_max - 1, 0) if messages_max > 1 else []
                if messages := [_message(r) for r in (first, *more) if r.error() is None or self._noted(r)]:
                    return messages
            elif left_s <= POLL_S_MAX:
                break
        return []

    def _noted(self, record: kafka.Message) -> bool:
        """Always False: a record that only tells of trouble is no message. Serious trouble is raised by the next batch,
        so that the messages beside it are not lost."""
        error = cast("KafkaError", record.error())
        if error.code() in _TRANSIENT or error.retriable():
            log.warning("consumer_trouble", error=str(error))
        else:
            self._trouble = BusError(str(error))
        return False

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble

    def _commit(self, places: list[Place]) -> None:
        # The broker takes offsets of any partition from a member of the group, so what is no longer ours is left out.
        ours = {(p.topic, p.partition) for p in self._consumer.assignment()}
        kept = [p for p in places if (p.topic, p.partition) in ours]
        if len(kept) < len(places):
            log.info("commit_after_rebalance", partitions=len(places) - len(kept))
        if not kept:
            return
        try:
            self._consumer.commit(offsets=kept, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _LOST:
                raise
            log.info("commit_after_rebalance", error=str(error))

    def _partitions(self, topic: str) -> list[int]:
        known = self._consumer.list_topics(topic, ASK_TIMEOUT_S).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        return sorted(known.partitions)

    def _places(self, topic: str, start: Start | Offsets) -> list[Place]:
        places = []
        for number in self._partitions(topic):
            place = Place(topic, number)
            if start == "latest":
                place.offset = self._consumer.get_watermark_offsets(place, ASK_TIMEOUT_S)[1]
            elif start == "earliest":
                place.offset = kafka.OFFSET_BEGINNING
            else:
                place.offset = start.get(TopicPartition(topic, number), kafka.OFFSET_BEGINNING)
            places.append(place)
        return places


async def _awaited(on_assigned: OnAssigned, places: list[TopicPartition]) -> Offsets:
    return await on_assigned(places)


def _message(record: kafka.Message) -> Message:
    # The library's types allow for what a consumed record never lacks; a `cast` here would cost as much as the rest.
    return Message(
        record.topic(),  # type: ignore[arg-type]
        record.partition(),  # type: ignore[arg-type]
        record.offset(),  # type: ignore[arg-type]
        record.key(),
        record.value(),
        record.headers,  # type: ignore[arg-type]
        record.timestamp()[1],
    )


class Notes:
    """Logs a client's trouble, each kind once in a while: an absent broker is reported several times a second."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._noted_s: dict[int, float] = {}

    def __call__(self, error: KafkaError) -> None:
        now_s = self._clock.monotonic_s()
        if error.fatal() or now_s - self._noted_s.get(error.code(), -NOTE_AGAIN_S) >= NOTE_AGAIN_S:
            self._noted_s[error.code()] = now_s
            log.warning("kafka_trouble", error=str(error), fatal=error.fatal())
