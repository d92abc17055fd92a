"""The outbox row: what a transaction wants published. Its columns are those of Debezium's outbox event router, so that
a stock connector can take the relay's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from infra.contracts import EVENT_ID, IDEMPOTENCY_KEY, SCHEMA, SCHEMA_VERSION, TRACEPARENT, Headers

# The relay's names in the database; the migration creates the publication, the relay its slot.
PUBLICATION = "outbox"
SLOT = "outbox_relay"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """`aggregatetype` is the topic, `aggregateid` the record key, `payload` the exact text of the record's value."""

    id: str
    aggregatetype: str
    aggregateid: str
    type: str
    payload: str
    idempotency_key: str
    traceparent: str


class Record(NamedTuple):
    """What a row becomes on the bus."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


def record_of(row: OutboxRow) -> Record:
    headers = record_headers(row.id, row.idempotency_key, row.traceparent)
    return Record(row.aggregatetype, row.aggregateid.encode(), row.payload.encode(), headers)


def record_headers(event_id: str, idempotency_key: str, traceparent: str) -> Headers:
    """The headers of the record that a row becomes."""
    return (
        (EVENT_ID, event_id.encode()),
        (IDEMPOTENCY_KEY, idempotency_key.encode()),
        (TRACEPARENT, traceparent.encode()),
        (SCHEMA, SCHEMA_VERSION),
    )
