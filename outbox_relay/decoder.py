"""Messages of one replication stream to entries: which rows are to be published, and what may be confirmed after them.

Pure: bytes in, entries out. A transaction's messages may come in any number of frames and reads.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

import structlog

from infra.contracts import EVENT_ID, IDEMPOTENCY_KEY, SCHEMA, TRACEPARENT
from infra.outbox import Record
from outbox_relay import pgoutput
from outbox_relay.pgoutput import Begin, Commit, Ignored, Insert, Keepalive, ProtocolError, Relation, Value
from outbox_relay.relay import Entry

log = structlog.get_logger(__name__)

TABLE = "outbox"
# In the order of a record's parts.
COLUMNS = ("aggregatetype", "aggregateid", "payload", "id", "idempotency_key", "traceparent", "schema")
# All rows that were missed are published; a place before every real position in the log.
CAUGHT_UP = 1
ALL_TEXT = {bytes}

Picked = Callable[[tuple[Value, ...]], tuple[Value, ...]]


class Decoder:
    """Remembers the relations and how far the stream was, nothing else."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._picked: dict[int, Picked] = {}
        self._position = CAUGHT_UP
        self._commit_ns = 0
        self.in_transaction = False

    def keepalive(self, received: Keepalive) -> list[Entry]:
        """All that was committed before its end has been sent: with nothing outstanding it can be confirmed. The log is
        shared, so without this a busy neighbour database would fill the disk on behalf of a quiet outbox."""
        return self._passed(received.end)

    def message(self, message: pgoutput.Message) -> list[Entry]:
        match message:
            case Insert():
                return [self._row(message)]
            case Begin():
                self._commit_ns = message.commit_ns
                self.in_transaction = True
            case Commit():
                self.in_transaction = False
                return self._passed(message.end_lsn)
            case Relation():
                self._learn(message)
            case Ignored():
                log.warning("replication_message_ignored", kind=message.kind)
        return []

    def _passed(self, position: int) -> list[Entry]:
        # A keepalive may be older than the commit before it; confirming must not go back.
        if position <= self._position:
            return []
        self._position = position
        return [Entry(None, position)]

    def _learn(self, relation: Relation) -> None:
        """The table may have changed between two rows: columns are found by their names as they are now."""
        self._relations[relation.id] = relation
        self._picked.pop(relation.id, None)
        if relation.name == TABLE and not (missing := set(COLUMNS) - set(relation.columns)):
            self._picked[relation.id] = itemgetter(*(relation.columns.index(column) for column in COLUMNS))
        elif relation.name == TABLE:
            raise ProtocolError(f"the outbox has no column {', '.join(sorted(missing))}")

    def _row(self, insert: Insert) -> Entry:
        picked = self._picked.get(insert.relation_id)
        if picked is None or len(insert.values) != len(self._relations[insert.relation_id].columns):
            raise ProtocolError(self._why_not(insert))
        parts = picked(insert.values)
        if set(map(type, parts)) != ALL_TEXT:
            found = next((c, v) for c, v in zip(COLUMNS, parts, strict=True) if not isinstance(v, bytes))
            raise ProtocolError(f"the outbox row has no {found[0]}: {found[1]!r}")
        return Entry(record_of_bytes(*parts), None, self._commit_ns)  # type: ignore[arg-type]  # all are bytes

    def _why_not(self, insert: Insert) -> str:
        relation = self._relations.get(insert.relation_id)
        if relation is None:
            return f"a row of the unknown relation {insert.relation_id}"
        if relation.name != TABLE:
            return f"the publication brings rows of {relation.schema}.{relation.name}, not of {TABLE} alone"
        return f"a row of {TABLE} has {len(insert.values)} values for {len(relation.columns)} columns"


def record_of_text(*columns: str) -> Record:
    """The record of a row whose COLUMNS were read by SQL."""
    return record_of_bytes(*(column.encode() for column in columns))


def record_of_bytes(
    topic: bytes, key: bytes, value: bytes, event_id: bytes, idempotency_key: bytes, traceparent: bytes, schema: bytes
) -> Record:
    headers = (
        (EVENT_ID, event_id),
        (IDEMPOTENCY_KEY, idempotency_key),
        (TRACEPARENT, traceparent),
        (SCHEMA, schema),
    )
    return Record(topic.decode(), key, value, headers)
