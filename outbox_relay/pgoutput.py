"""The words of PostgreSQL's logical replication, as pure functions from bytes to values and back.

Two layers: the frames inside the copy stream ("Streaming Replication Protocol" in the PostgreSQL manual's chapter on
the frontend/backend protocol), and in them the messages of the plugin `pgoutput`, protocol version 1 ("Logical
Replication Message Formats"). Version 1 sends a transaction only once it is committed, whole, in the order of commits.

All numbers are big-endian. An LSN is a byte position in the write-ahead log. Server times are microseconds since
2000-01-01 UTC and become nanoseconds since 1970 here. The classes are not frozen because a frozen one costs three times
as much to make, and a row needs six.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

NS_PER_US = 1_000
PG_EPOCH_US = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970


class ProtocolError(ValueError):
    """The bytes are not what the protocol version we asked for may send."""


class Unchanged(enum.Enum):
    """The mark for a large value that an update did not touch and that is therefore not sent."""

    TOAST = "unchanged"


# A value's bytes are its text in the client's encoding; the reader asks for UTF-8.
Value = bytes | None | Unchanged

# Start and end of the log and the sender's clock; end, clock, and whether to reply.
_WAL_DATA = struct.Struct(">QQQ")
_KEEPALIVE = struct.Struct(">QQB")
# Relation, the mark of a new row, number of columns.
_INSERT = struct.Struct(">IcH")


# -- frames ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class WalData:
    """`payload` is one message; `end` the end of the log on the server when it was sent."""

    start: int
    end: int
    payload: bytes


@dataclass(slots=True)
class Keepalive:
    """Everything that was committed before `end` has been sent. With `reply` the server drops who does not answer."""

    end: int
    reply: bool


def frame(data: bytes) -> WalData | Keepalive:
    """One frame of the copy stream."""
    kind = data[:1]
    try:
        if kind == b"w":
            start, end, _ = _WAL_DATA.unpack_from(data, 1)
            return WalData(start, end, data[1 + _WAL_DATA.size :])
        if kind == b"k":
            end, _, reply = _KEEPALIVE.unpack_from(data, 1)
            return Keepalive(end, reply != 0)
    except struct.error as error:
        raise ProtocolError(f"a frame {kind!r} of {len(data)} bytes is cut: {error}") from error
    raise ProtocolError(f"unknown frame {kind!r}")


def standby_status(confirmed: int, now_ns: int) -> bytes:
    """Standby status update: all before `confirmed` was received, is durable and applied, and is not sent again."""
    return struct.pack(">cQQQqB", b"r", confirmed, confirmed, confirmed, now_ns // NS_PER_US - PG_EPOCH_US, 0)


def lsn_text(lsn: int) -> str:
    """As the server prints it: two hexadecimal halves."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFF_FFFF:X}"


def lsn_of(text: str) -> int:
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


# -- messages ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Begin:
    commit_lsn: int
    commit_ns: int
    xid: int


@dataclass(slots=True)
class Commit:
    """`end_lsn` is the position to confirm when the whole transaction is done."""

    commit_lsn: int
    end_lsn: int
    commit_ns: int


@dataclass(slots=True)
class Relation:
    """A table's columns in the order of its rows' values. Sent before its first row and again after it changed."""

    id: int
    schema: str
    name: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Insert:
    relation_id: int
    values: tuple[Value, ...]


@dataclass(slots=True)
class Ignored:
    """A message that an insert-only reader has no use for."""

    kind: str


Message = Begin | Commit | Relation | Insert | Ignored

# What the protocol may send us, but only says something about rows that exist already, types and other servers.
_IGNORED = {b"U": "update", b"D": "delete", b"T": "truncate", b"Y": "type", b"O": "origin", b"M": "message"}
# What it sends only to those who asked for a later version or an option.
_UNASKED = {
    b"S": "stream start",
    b"E": "stream stop",
    b"c": "stream commit",
    b"A": "stream abort",
    b"b": "begin prepare",
    b"P": "prepare",
    b"K": "commit prepared",
    b"r": "rollback prepared",
    b"p": "stream prepare",
}


def message(data: bytes) -> Message:
    """One message of the plugin. Raises ProtocolError for an unknown or cut one."""
    if data[:1] == b"I":
        return _insert(data)
    body = _Reader(data)
    kind = body.byte()
    match kind:
        case b"B":
            return Begin(body.uint64(), body.time_ns(), body.uint32())
        case b"C":
            body.byte()  # flags, unused
            return Commit(body.uint64(), body.uint64(), body.time_ns())
        case b"R":
            return _relation(body)
    if kind in _IGNORED:
        return Ignored(_IGNORED[kind])
    if kind in _UNASKED:
        raise ProtocolError(f"message {kind!r} ({_UNASKED[kind]}) does not belong to protocol version 1")
    raise ProtocolError(f"unknown message {kind!r}")


def row(relation: Relation, insert: Insert) -> dict[str, Value]:
    """The inserted values by column name."""
    if len(relation.columns) != len(insert.values):
        raise ProtocolError(
            f"a row of {relation.schema}.{relation.name} has {len(insert.values)} values "
            f"for {len(relation.columns)} columns"
        )
    return dict(zip(relation.columns, insert.values, strict=True))


def _relation(body: _Reader) -> Relation:
    number, schema, name = body.uint32(), body.text(), body.text()
    body.byte()  # replica identity
    columns = []
    for _ in range(body.uint16()):
        body.byte()  # flags: part of the key
        columns.append(body.text())
        body.uint32()  # type
        body.uint32()  # type modifier
    return Relation(number, schema, name, tuple(columns))


def _insert(data: bytes) -> Insert:
    """A new row. Written without the reader's calls: most of the decoder's time is spent here."""
    try:
        number, mark, count = _INSERT.unpack_from(data, 1)
    except struct.error as error:
        raise ProtocolError(f"cut: an insert of {len(data)} bytes") from error
    if mark != b"N":
        raise ProtocolError(f"an insert must bring a new row, not {mark!r}")
    values: list[Value] = []
    at, length = 1 + _INSERT.size, len(data)
    for _ in range(count):
        kind = data[at : at + 1]
        if kind == b"t":
            start = at + 5
            at = start + int.from_bytes(data[at + 1 : start], "big")
            if start > length or at > length:
                raise ProtocolError(f"cut: a value ends at byte {at} of {length}")
            values.append(data[start:at])
        elif kind == b"n":
            values.append(None)
            at += 1
        elif kind == b"u":
            values.append(Unchanged.TOAST)
            at += 1
        elif not kind:
            raise ProtocolError(f"cut: {len(values)} columns of {count}")
        else:
            raise ProtocolError(f"unknown kind of value {kind!r}; binary values were not asked for")
    return Insert(number, tuple(values))


class _Reader:
    """Takes values off the front of a message; every cut is a ProtocolError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> bytes:
        return self._take(1)

    def uint16(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def time_ns(self) -> int:
        return (int.from_bytes(self._take(8), "big", signed=True) + PG_EPOCH_US) * NS_PER_US

    def text(self) -> str:
        """Text up to its closing zero byte."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise ProtocolError(f"text without an end at byte {self._at}")
        found = self._take(end - self._at)
        self._at += 1
        try:
            return found.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"text is not UTF-8: {error}") from error

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise ProtocolError(f"cut at byte {len(self._data)}: {end - len(self._data)} more expected")
        taken = self._data[self._at : end]
        self._at = end
        return taken
