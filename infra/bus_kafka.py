"""The bus on Apache Kafka, by confluent-kafka's classic clients.

The asyncio flavour of the library waits up to a second per message by default and refuses headers, so each producer has
one poll thread and each consumer one thread that owns it; the event loop is told by `call_soon_threadsafe`. For what a
setting means see librdkafka's CONFIGURATION.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import confluent_kafka as kafka
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from infra.bus import BusError, Message, Offsets, OnAssigned, Start, TopicPartition
from infra.clock import SystemClock
from infra.contracts import Headers

log = structlog.get_logger(__name__)
R = TypeVar("R")

ASK_TIMEOUT_S = 10.0
ASK_AGAIN_S = 0.05
FRESH_S_MAX = 2.0
CLOSE_TIMEOUT_S = 3.5
PURGE_TIMEOUT_S = 0.3
WARM_UP_TIMEOUT_S = 1.0
# The longest that a consumer's thread is deaf to a close.
POLL_S_MAX = 0.1
# More than a topic takes by default (1,048,588), so that any message fits its dead-letter topic with the headers added.
MESSAGE_BYTES_MAX = 2_000_000
# A commit that comes after its partitions went to another member: the new owner reads again and dedupes.
_LOST = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._STATE,
}
# What brokers say of a topic that was made a moment ago, until all of them have heard of it.
_FRESH = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
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


class KafkaBus:
    """Connections are made by what it hands out; the bus itself holds only the addresses."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._common: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "log.connection.close": False,
            "reconnect.backoff.max.ms": 1_000,
        }

    def producer(self, linger_ms: int = 0) -> KafkaProducer:
        return KafkaProducer(self._common, linger_ms)

    async def subscribe(
        self, topics: Iterable[str], group: str, on_assigned: OnAssigned | None = None
    ) -> KafkaSubscription:
        subscription = KafkaSubscription(self._consumer_settings(group), in_group=True)
        return await subscription.opened(subscription.join(list(topics), on_assigned))

    async def read(self, topics: Iterable[str], start: Start | Offsets) -> KafkaSubscription:
        subscription = KafkaSubscription(self._consumer_settings("unused"), in_group=False)
        return await subscription.opened(subscription.assign(list(topics), start))

    def _consumer_settings(self, group: str) -> dict[str, Any]:
        return self._common | {
            "group.id": group,
            "group.protocol": "classic",
            "partition.assignment.strategy": "range",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_000,
            "fetch.wait.max.ms": 100,
            # The default pauses fetching for a second whenever the local queue was full for a moment.
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 16_384,
        }


class KafkaProducer:
    """Idempotent, acks=all, partitioned as Java clients do. Waits for a broker without end: giving up on one record
    while later ones of its key go out would reorder them. The local queue bounds memory."""

    def __init__(self, common: dict[str, Any], linger_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = kafka.Producer(
            common
            | {
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": linger_ms,
                "message.timeout.ms": 0,
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "queue.buffering.max.kbytes": 131_072,
                "topic.metadata.propagation.max.ms": 5_000,
                "error_cb": _note,
            }
        )
        self._delivered: list[tuple[asyncio.Future[None], KafkaError | None]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        if self._closed:
            raise BusError("the producer is closed")
        done: asyncio.Future[None] = self._loop.create_future()

        def delivered(error: KafkaError | None, _: object) -> None:
            with self._lock:
                first = not self._delivered
                self._delivered.append((done, error))
            if first:
                self._tell(self._settle)

        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=delivered)
        except BufferError as error:
            raise BusError("the producer's queue is full") from error
        except KafkaException as error:
            raise BusError(str(error)) from error
        return done

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        left = await asyncio.to_thread(self._producer.flush, CLOSE_TIMEOUT_S)
        if left:
            log.warning("producer_closed_with_undelivered_records", records=left)
            self._producer.purge()  # so that whoever waits for a delivery is told
            await asyncio.to_thread(self._producer.flush, PURGE_TIMEOUT_S)
        self._ended.set()
        await asyncio.to_thread(self._thread.join)
        self._settle()

    def _poll(self) -> None:
        # Connect and learn the topics now: otherwise the first record waits for it, some tenths of a second.
        with contextlib.suppress(KafkaException):
            self._producer.list_topics(timeout=WARM_UP_TIMEOUT_S)
        while not self._ended.is_set():
            self._producer.poll(0.1)

    def _settle(self) -> None:
        with self._lock:
            batch, self._delivered = self._delivered, []
        for done, error in batch:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(BusError(str(error)))

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody waits for these any more
            log.warning("deliveries_after_the_loop_closed")


class KafkaSubscription:
    """One consumer, used from one thread of its own only."""

    def __init__(self, settings: dict[str, Any], in_group: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-consumer")
        self._consumer = Consumer(settings | {"error_cb": _note})
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
        until_s = self._clock.monotonic_s() + FRESH_S_MAX
        while True:
            try:
                return await self._do(call)
            except BusError as error:
                fresh = isinstance(error.__cause__, KafkaException) and error.__cause__.args[0].code() in _FRESH
                if not fresh or self._clock.monotonic_s() > until_s:
                    raise
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
                if messages := [_message(record) for record in (first, *more) if self._usable(record)]:
                    return messages
            elif left_s <= POLL_S_MAX:
                break
        return []

    def _usable(self, record: kafka.Message) -> bool:
        """False for a record that only tells of trouble; serious trouble is raised by the next batch, so that the
        messages beside it are not lost."""
        error = record.error()
        if error is None:
            return True
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
    pairs = cast("list[tuple[str, bytes | None]]", record.headers() or [])
    return Message(
        cast("str", record.topic()),
        cast("int", record.partition()),
        cast("int", record.offset()),
        record.key(),
        record.value(),
        tuple((name, value or b"") for name, value in pairs),
        record.timestamp()[1],
    )


def _note(error: KafkaError) -> None:
    log.warning("kafka_trouble", error=str(error), fatal=error.fatal())
