"""The bus port: an ordered, partitioned log with consumer groups (Kafka's model, nothing more).

`bus_kafka` is the real one, `bus_memory` its twin; both pass the same contract tests. Delivery is at least once: every
consumer dedupes in the transaction of its effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec
import structlog

from infra.clock import wait
from infra.contracts import Headers

log = structlog.get_logger(__name__)


class TopicPartition(NamedTuple):
    topic: str
    partition: int


RawHeaders = Iterable[tuple[str, bytes | None]]


class Message(msgspec.Struct, frozen=True, gc=False):
    """A record as it was read. `timestamp_ms` is the producer's clock, Unix milliseconds.

    There may be a hundred thousand a second: the collector is not told of them, and headers are made when asked for.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    source: Headers | Callable[[], RawHeaders | None]
    timestamp_ms: int

    @property
    def headers(self) -> Headers:
        if isinstance(self.source, tuple):
            return self.source
        return tuple((name, value or b"") for name, value in self.source() or ())

    def header(self, name: str) -> bytes | None:
        """The last value of a header, or None."""
        return next((value for key, value in reversed(self.headers) if key == name), None)


class BusError(Exception):
    """The bus could not do what was asked. Trying again later can help."""


Offsets = Mapping[TopicPartition, int]
Start = Literal["earliest", "latest"]
OnAssigned = Callable[[list[TopicPartition]], Awaitable[Offsets]]
Delivered = Callable[[BusError | None], None]


class Producer(Protocol):
    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        """Hand over one record; the future ends when the record is durable, or raises BusError.

        Records of one key keep the order of the calls. Never blocks; call from the event loop only. Raises BusError at
        once when the local queue is full.
        """
        ...

    def post(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, delivered: Delivered) -> None:
        """As `send`, for whoever counts thousands of records a second: no future; `delivered` is called once, from any
        thread, with None or what went wrong, and must not block."""
        ...

    async def close(self) -> None:
        """Deliver what was handed over (bounded by the delivery timeout), then release."""
        ...


class Subscription(Protocol):
    async def batch(self, messages_max: int, wait_s: float) -> list[Message]:
        """The next messages in partition order; empty when none came within `wait_s`. One caller at a time."""
        ...

    async def commit(self, offsets: Offsets) -> None:
        """Store, per partition, the offset of the next message to read. A partition lost meanwhile is ignored."""
        ...

    async def close(self) -> None:
        """Leave, so that others take the partitions over at once."""
        ...


class Bus(Protocol):
    def producer(self, linger_ms: int = 0) -> Producer:
        """A producer that waits up to `linger_ms` to fill a batch: 0 for latency, a few for throughput."""
        ...

    async def subscribe(self, topics: Iterable[str], group: str, on_assigned: OnAssigned | None = None) -> Subscription:
        """Share the topics' partitions with the group's other members; start at the committed offset, else earliest.

        `on_assigned` may override the start of newly assigned partitions (offsets kept in a database).
        """
        ...

    async def read(self, topics: Iterable[str], start: Start | Offsets) -> Subscription:
        """Read all partitions oneself, without a group. An offset that is gone means earliest.

        With offsets, partitions that are not named start at earliest. When this returns, `latest` is already fixed:
        whatever is sent afterwards will be seen.
        """
        ...

    async def ends(self, topics: Iterable[str]) -> Offsets:
        """Per partition that holds records, the offset after the newest: what a reader must reach to know them all."""
        ...


RETRY_S = 1.0


async def insisting(what: str, reading: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    """Read until `stop`; a bus that is away is tried again, so that what needs no bus goes on meanwhile."""
    while not stop.is_set():
        try:
            await reading(stop)
        except BusError as error:
            log.warning("bus_cannot_be_read", what=what, error=str(error))
            await wait(stop, RETRY_S)


def next_offsets(messages: Iterable[Message]) -> dict[TopicPartition, int]:
    """What to commit once these messages, each partition's in their order, are done."""
    last = {(message.topic, message.partition): message.offset for message in messages}
    return {TopicPartition(*place): offset + 1 for place, offset in last.items()}
