"""The bus on Apache Kafka, by confluent-kafka's classic clients.

The asyncio flavour of the library waits up to a second per message by default and refuses headers, so each producer has
one poll thread and each consumer one thread that owns it; the event loop is told by `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import confluent_kafka as kafka
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from infra.bus import BusError, Message, Offsets, OnAssigned, Start, TopicPartition
from infra.contracts import Headers

log = structlog.get_logger(__name__)
R = TypeVar("R")

ASK_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 4.0
# A commit that comes after its partitions went to another member: the new owner reads again and dedupes.
_LOST = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._STATE,
}
_TRANSIENT = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT}


class KafkaBus:
    """Connections are made by what it hands out; the bus itself holds only the addresses."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._common = {"bootstrap.servers": bootstrap, "client.id": client_id, "log.connection.close": False}

    def producer(self, linger_ms: int = 0) -> KafkaProducer:
        return KafkaProducer(self._common, linger_ms)

    async def subscribe(
        self, topics: Iterable[str], group: str, on_assigned: OnAssigned | None = None
    ) -> KafkaSubscription:
        subscription = KafkaSubscription(self._consumer_settings(group, "earliest"))
        await subscription.join(list(topics), on_assigned)
        return subscription

    async def read(self, topics: Iterable[str], start: Start | Offsets) -> KafkaSubscription:
        subscription = KafkaSubscription(self._consumer_settings("unused", "earliest"))
        await subscription.assign(list(topics), start)
        return subscription

    def _consumer_settings(self, group: str, reset: Start) -> dict[str, Any]:
        return self._common | {
            "group.id": group,
            "group.protocol": "classic",
            "partition.assignment.strategy": "range",
            "auto.offset.reset": reset,
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 2_000,
            "fetch.wait.max.ms": 100,
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
                "error_cb": _note,
            }
        )
        self._delivered: list[tuple[asyncio.Future[None], KafkaError | None]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
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
        left = await asyncio.to_thread(self._producer.flush, CLOSE_TIMEOUT_S)
        if left:
            log.warning("producer_closed_with_undelivered_records", records=left)
        self._closing.set()
        await asyncio.to_thread(self._thread.join)
        self._settle()

    def _poll(self) -> None:
        while not self._closing.is_set():
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

    def __init__(self, settings: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-consumer")
        self._consumer = Consumer(settings | {"error_cb": _note})
        self._pending: asyncio.Future[list[Message]] | None = None

    async def join(self, topics: list[str], on_assigned: OnAssigned | None) -> None:
        def assigned(consumer: Consumer, places: list[Place]) -> None:
            if on_assigned is not None:
                asked = on_assigned([TopicPartition(p.topic, p.partition) for p in places])
                starts = asyncio.run_coroutine_threadsafe(_awaited(asked), self._loop).result(ASK_TIMEOUT_S)
                for place in places:
                    if (offset := starts.get(TopicPartition(place.topic, place.partition))) is not None:
                        place.offset = offset
            consumer.assign(places)
            log.info("partitions_assigned", partitions=[f"{p.topic}/{p.partition}" for p in places])

        def revoked(consumer: Consumer, places: list[Place]) -> None:
            log.info("partitions_revoked", partitions=[f"{p.topic}/{p.partition}" for p in places])

        await self._do(lambda: self._consumer.subscribe(topics, on_assign=assigned, on_revoke=revoked))

    async def assign(self, topics: list[str], start: Start | Offsets) -> None:
        await self._do(lambda: self._consumer.assign([p for topic in topics for p in self._places(topic, start)]))

    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        # A cancelled caller must not lose what the thread is just reading: the next call takes it over.
        if self._pending is None:
            self._pending = self._loop.run_in_executor(self._thread, self._poll, messages_max, wait_s)
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
        if places:
            await self._do(lambda: self._commit(places))

    async def close(self) -> None:
        await self._do(self._consumer.close)
        self._thread.shutdown(wait=False)

    async def _do(self, call: Callable[[], R]) -> R:
        try:
            return await self._loop.run_in_executor(self._thread, call)
        except KafkaException as error:
            raise BusError(str(error)) from error

    def _poll(self, messages_max: int, wait_s: float) -> list[Message]:
        # consume(n, timeout) waits out its timeout unless n came; poll returns with the first.
        first = self._consumer.poll(wait_s)
        if first is None:
            return []
        records = [first, *self._consumer.consume(messages_max - 1, 0)] if messages_max > 1 else [first]
        return [_message(record) for record in records if _usable(record)]

    def _commit(self, places: list[Place]) -> None:
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _LOST:
                raise
            log.info("commit_after_rebalance", error=str(error))

    def _places(self, topic: str, start: Start | Offsets) -> list[Place]:
        known = self._consumer.list_topics(topic, ASK_TIMEOUT_S).topics[topic]
        if known.error is not None:
            raise BusError(f"topic {topic}: {known.error}")
        places = []
        for number in sorted(known.partitions):
            place = Place(topic, number)
            if start == "latest":
                place.offset = self._consumer.get_watermark_offsets(place, ASK_TIMEOUT_S)[1]
            elif start == "earliest":
                place.offset = kafka.OFFSET_BEGINNING
            else:
                place.offset = start.get(TopicPartition(topic, number), kafka.OFFSET_BEGINNING)
            places.append(place)
        return places


async def _awaited(call: Any) -> Any:
    return await call


def _usable(record: kafka.Message) -> bool:
    error = record.error()
    if error is None:
        return True
    if error.code() == KafkaError._PARTITION_EOF or error.code() in _TRANSIENT or error.retriable():
        log.warning("consumer_trouble", error=str(error))
        return False
    raise BusError(str(error))


def _message(record: kafka.Message) -> Message:
    headers = tuple((name, value if isinstance(value, bytes) else b"") for name, value in record.headers() or ())
    return Message(
        record.topic(),
        record.partition(),
        record.offset(),
        record.key(),
        record.value(),
        headers,
        record.timestamp()[1],
    )


def _note(error: KafkaError) -> None:
    log.warning("kafka_trouble", error=str(error), fatal=error.fatal())
