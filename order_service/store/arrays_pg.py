"""Columns as PostgreSQL's binary arrays: a batch of long texts travels and is read at a third of what the same rows
cost as JSON, because nothing is escaped and nothing is searched for."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.json import set_json_loads

# Dimensions, whether there are nulls, type of the elements, their number, index of the first (array_send).
_HEAD = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i").pack
_NULL = b"\xff\xff\xff\xff"


class Array:
    """One column, encoded. `oid` is the array's type, `element` that of what is in it (pg_type)."""

    __slots__ = ("data",)
    oid: int
    element: int

    def __init__(self, count: int, encoded: bytes) -> None:
        self.data = _HEAD.pack(1, 1, self.element, count, 1) + encoded


class Texts(Array):
    oid, element = 1009, 25

    def __init__(self, values: Sequence[str | None]) -> None:
        encoded: list[bytes] = []
        for value in values:
            if value is None:
                encoded.append(_NULL)
            else:
                text = value.encode()
                encoded += (_LENGTH(len(text)), text)
        super().__init__(len(values), b"".join(encoded))


class Bigints(Array):
    oid, element = 1016, 20

    def __init__(self, values: Sequence[int]) -> None:
        flat = [8] * (2 * len(values))  # each value behind its length
        flat[1::2] = values
        super().__init__(len(values), struct.pack("!" + "iq" * len(values), *flat))


class Uuids(Array):
    oid, element = 2951, 2950

    def __init__(self, values: Sequence[str]) -> None:
        # A uuid is 16 bytes, which its length says in hex too, so that all are decoded at once.
        super().__init__(len(values), bytes.fromhex("".join(["00000010" + value for value in values]).replace("-", "")))


def adapt(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """Have the connection take these as parameters (`%b`), and read JSON faster."""
    for kind in (Texts, Bigints, Uuids):
        dump = type(f"{kind.__name__}Dumper", (_ArrayDumper,), {"oid": kind.oid})
        connection.adapters.register_dumper(kind, dump)
    set_json_loads(msgspec.json.decode, connection)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data
