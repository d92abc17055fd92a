"""Builds the bytes that PostgreSQL would send; the inverse of the decoder, for its tests only."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from outbox_relay.pgoutput import NS_PER_US, PG_EPOCH_US, Unchanged, Value


def pg_time(ns: int) -> int:
    return ns // NS_PER_US - PG_EPOCH_US


def begin(commit_lsn: int, commit_ns: int, xid: int) -> bytes:
    return struct.pack(">cQqI", b"B", commit_lsn, pg_time(commit_ns), xid)


def commit(commit_lsn: int, end_lsn: int, commit_ns: int) -> bytes:
    return struct.pack(">cBQQq", b"C", 0, commit_lsn, end_lsn, pg_time(commit_ns))


def relation(number: int, schema: str, name: str, columns: Sequence[str]) -> bytes:
    head = struct.pack(">cI", b"R", number) + schema.encode() + b"\0" + name.encode() + b"\0d"
    body = [struct.pack(">B", i == 0) + c.encode() + b"\0" + struct.pack(">Ii", 25, -1) for i, c in enumerate(columns)]
    return head + struct.pack(">H", len(columns)) + b"".join(body)


def row(values: Sequence[Value]) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(map(value, values))


def value(one: Value) -> bytes:
    if one is None:
        return b"n"
    if isinstance(one, Unchanged):
        return b"u"
    return b"t" + struct.pack(">I", len(one)) + one


def insert(number: int, values: Sequence[Value]) -> bytes:
    return struct.pack(">cIc", b"I", number, b"N") + row(values)


def wal_data(start: int, end: int, payload: bytes) -> bytes:
    return struct.pack(">cQQQ", b"w", start, end, 0) + payload


def keepalive(end: int, reply: bool) -> bytes:
    return struct.pack(">cQQB", b"k", end, 0, reply)
