"""Every `*.dlq` topic becomes rows that operators can list. The topics stay as they are: the index can be made anew."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid5

import structlog

from infra.bus import RETRY_S, Bus, BusError, Message, next_offsets
from infra.clock import wait
from infra.contracts import DLQ_SUFFIX
from infra.db import TRANSIENT
from infra.dlq.letters import DLQ_TOPICS, REPLAYS, DeadLetter, DeadLetters, Record
from infra.dlq.park import TEXT_CHARACTERS_MAX
from infra.process import Part
from infra.telemetry import DEAD_LETTERS_INDEXED

log = structlog.get_logger(__name__)

GROUP = "dead-letter-index"
UNKNOWN = "unknown"
MESSAGES_MAX = 100
WAIT_S = 0.5
NAME_CHARACTERS_MAX = 200
REPLAYS_MAX = 1_000_000
# The end of the year 9999, which is as far as calendars go here; the producer of a record may have said anything.
TIMESTAMP_MS_MAX = 253_402_300_799_999
_LETTERS = UUID("6f2d2e4b-6d3f-5a53-9c2a-0f0f6f2c7d11")


def index_part(bus: Bus, letters: DeadLetters) -> Part:
    """Keeps the index until `stop`; a store or a bus that is away is tried again."""

    async def index(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await _follow(bus, letters, stop)
            except (*TRANSIENT, BusError) as error:
                log.warning("dead_letters_cannot_be_indexed", error=repr(error))
                await wait(stop, RETRY_S)

    return index


async def _follow(bus: Bus, letters: DeadLetters, stop: asyncio.Event) -> None:
    subscription = await bus.subscribe(DLQ_TOPICS, GROUP)
    try:
        while not stop.is_set():
            if messages := await subscription.batch(MESSAGES_MAX, WAIT_S):
                await letters.add([letter_of(message) for message in messages])
                await subscription.commit(next_offsets(messages))
                DEAD_LETTERS_INDEXED.inc(len(messages))
    finally:
        await subscription.close()


def letter_of(message: Message) -> DeadLetter:
    """The letter that a record is. Never fails: whatever somebody else wrote there is shown too, with code `unknown`.

    The id comes from the record's place, so that reading the topic again makes the same letters.
    """
    place = f"{message.topic}-{message.partition}-{message.offset}"
    return DeadLetter(
        id=str(uuid5(_LETTERS, place)),
        dlq_topic=message.topic,
        dlq_partition=message.partition,
        dlq_offset=message.offset,
        topic=message.topic.removesuffix(DLQ_SUFFIX),
        partition=_number(message, "kafka_dlt-original-partition", "__connect.errors.partition"),
        offset=_number(message, "kafka_dlt-original-offset", "__connect.errors.offset"),
        code=_text(message, NAME_CHARACTERS_MAX, "kafka_dlt-exception-fqcn", "__connect.errors.exception.class.name")
        or UNKNOWN,
        text=_text(message, TEXT_CHARACTERS_MAX, "kafka_dlt-exception-message", "__connect.errors.exception.message"),
        consumer=_text(
            message, NAME_CHARACTERS_MAX, "kafka_dlt-original-consumer-group", "__connect.errors.connector.name"
        ),
        order_id=order_id_of(message.key),
        parked_us=min(max(message.timestamp_ms, 0), TIMESTAMP_MS_MAX) * 1000,
        replays=min(_decimal(message.header(REPLAYS)) or 0, REPLAYS_MAX),
        record=Record(message.key, message.value, message.headers),
    )


def order_id_of(key: bytes | None) -> str | None:
    """The key where it is an order id, which is a UUID in its usual form."""
    text = (key or b"").decode("ascii", "replace")
    try:
        return text if str(UUID(text)) == text else None
    except ValueError:
        return None


def _text(message: Message, characters_max: int, *names: str) -> str:
    """The first of the headers that is there, as text that PostgreSQL takes: without NUL, and not longer than that."""
    raw = next((value for name in names if (value := message.header(name)) is not None), b"")
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")[:characters_max]


def _number(message: Message, binary: str, decimal: str) -> int | None:
    """A number as Java writes it (big-endian, signed), else as text."""
    raw = message.header(binary)
    if raw is not None and len(raw) in (4, 8):
        return int.from_bytes(raw, "big", signed=True)
    return _decimal(message.header(decimal))


def _decimal(raw: bytes | None) -> int | None:
    return int(raw) if raw and raw.isdigit() and len(raw) <= 18 else None
