"""Park a message that cannot be handled: its original bytes, key and headers, and why, on `<topic>.dlq`.

Both header families that tools know are written: Spring Kafka's `kafka_dlt-*` (numbers as Java writes them: big-endian,
signed) and Kafka Connect's `__connect.errors.*` (everything as text).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from infra.bus import Message, Producer
from infra.contracts import DLQ_SUFFIX, Headers
from infra.telemetry import PARKED

log = structlog.get_logger(__name__)

TEXT_CHARACTERS_MAX = 1000
HEADER_PREFIXES = ("kafka_dlt-", "__connect.errors.")


@dataclass(frozen=True, slots=True)
class Park:
    """A handler's verdict: this message can never be handled. `code` is stable, `text` says what was seen."""

    message: Message
    code: str
    text: str


async def park(producer: Producer, consumer: str, verdicts: Iterable[Park]) -> None:
    """Write the parked messages; returns when all are durable. Only then may their offsets be committed."""
    parked = list(verdicts)
    sent = []
    for verdict in parked:
        message = verdict.message
        headers = message.headers + why(verdict, consumer)
        sent.append(producer.send(message.topic + DLQ_SUFFIX, message.key, message.value, headers))
    await asyncio.gather(*sent)
    for verdict in parked:
        message = verdict.message
        log.error(
            "message_parked",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            code=verdict.code,
            text=verdict.text[:TEXT_CHARACTERS_MAX],
        )
        PARKED.labels(message.topic).inc()


def why(verdict: Park, consumer: str) -> Headers:
    """The headers that say where a parked message came from and what was wrong with it."""
    message, text = verdict.message, verdict.text[:TEXT_CHARACTERS_MAX].encode()
    code = verdict.code.encode()
    return (
        ("kafka_dlt-original-topic", message.topic.encode()),
        ("kafka_dlt-original-partition", message.partition.to_bytes(4, "big", signed=True)),
        ("kafka_dlt-original-offset", message.offset.to_bytes(8, "big", signed=True)),
        ("kafka_dlt-original-timestamp", message.timestamp_ms.to_bytes(8, "big", signed=True)),
        ("kafka_dlt-original-consumer-group", consumer.encode()),
        ("kafka_dlt-exception-fqcn", code),
        ("kafka_dlt-exception-message", text),
        ("__connect.errors.topic", message.topic.encode()),
        ("__connect.errors.partition", str(message.partition).encode()),
        ("__connect.errors.offset", str(message.offset).encode()),
        ("__connect.errors.connector.name", consumer.encode()),
        ("__connect.errors.stage", b"VALUE_CONVERTER" if verdict.code == "malformed" else b"TASK_PUT"),
        ("__connect.errors.exception.class.name", code),
        ("__connect.errors.exception.message", text),
    )
