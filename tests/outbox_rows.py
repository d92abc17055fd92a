"""Outbox rows for tests, and the statement that stores one."""

from __future__ import annotations

import uuid

from infra.outbox import OutboxRow

INSERT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


def made_row(number: int, topic: str = "things", key: str | None = None) -> OutboxRow:
    """The same number makes the same row."""
    row_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{topic}-{key}-{number}"))
    return OutboxRow(row_id, topic, key or f"key-{number % 3}", "Thing", f'{{"n":{number}}}', f"ik-{number}", "00-tp")


def columns_of(row: OutboxRow) -> tuple[str, ...]:
    return (row.id, row.aggregatetype, row.aggregateid, row.type, row.payload, row.idempotency_key, row.traceparent)
