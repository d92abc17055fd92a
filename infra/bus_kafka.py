"""The bus on Apache Kafka, by confluent-kafka's classic clients.

The asyncio flavour of the library waits up to a second per message by default and refuses headers, so each producer has
one poll thread and each consumer one thread that owns it; the event loop is told by `call_soon_threadsafe`. For what a
setting means see librdkafka's CONFIGURATION.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

import confluent_kafka as kafka
import structlog
from confluent_kafka import KafkaError, KafkaException

from infra.bus import BusError, Delivered, Offsets, OnAssigned, Start
from infra.consumer_kafka import KafkaSubscription, Notes
from infra.contracts import Headers

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 3.5
PURGE_TIMEOUT_S = 0.3
WARM_UP_TIMEOUT_S = 1.0
# More than a topic takes by default (1,048,588), so that any message fits its dead-letter topic with the headers added.
MESSAGE_BYTES_MAX = 2_000_000


class KafkaBus:
    """Connections are made by what it hands out; the bus itself holds only the addresses."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._common: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "log.connection.close": False,
            # What it prints itself goes past our log; `error_cb` brings the same.
            "log_level": 0,
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

    async def ends(self, topics: Iterable[str]) -> Offsets:
        asking = KafkaSubscription(self._consumer_settings("unused"), in_group=False)
        try:
            return await asking.ends(list(topics))
        finally:
            await asking.close()

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
                "error_cb": Notes(),
            }
        )
        self._delivered: list[tuple[asyncio.Future[None], KafkaError | None]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
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

        self._produce(topic, key, value, headers, delivered)
        return done

    def post(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, delivered: Delivered) -> None:
        def told(error: KafkaError | None, _: object) -> None:
            delivered(None if error is None else BusError(str(error)))

        self._produce(topic, key, value, headers, told)

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        delivered: Callable[[KafkaError | None, object], None],
    ) -> None:
        if self._closed:
            raise BusError("the producer is closed")
        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=delivered)
        except BufferError as error:
            raise BusError("the producer's queue is full") from error
        except KafkaException as error:
            raise BusError(str(error)) from error

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
