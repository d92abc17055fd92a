"""Ticks as rows of PostgreSQL's binary COPY format (PostgreSQL documentation, COPY, "Binary Format"). Pure.

The columns stand in an order that suits this: first what is the same for all ticks of a symbol, session and venue code,
made once; then what differs, all of it of fixed length. Rows whose heads are equally long are one array of records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from price_service.store.columns import Columns, Numbers

COLUMNS = (
    "symbol",
    "session",
    "kind",
    "exch",
    "price_micros",
    "size",
    "cond",
    "bid_micros",
    "bid_size",
    "ask_micros",
    "ask_size",
    "ts",
    "ns",
    "q",
    "received_at",
)

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
# PostgreSQL counts microseconds from 2000-01-01 UTC.
_EPOCH_US = 946_684_800_000_000
_EPOCH_MS = _EPOCH_US // 1000

# Name and bytes of each field behind the head; None is NULL, which has no bytes.
_Field = tuple[Numbers | None, int]


def rows(columns: Columns) -> Iterator[bytes]:
    """All rows, in some pieces. `HEADER`, rows, `TRAILER` make a whole COPY."""
    yield from _trades(columns)
    yield from _quotes(columns)


def _trades(columns: Columns) -> Iterator[bytes]:
    at = columns.trades
    if not len(at):
        return
    combined, head = np.unique(columns.day[at] * len(columns.venues) + columns.x, return_inverse=True)
    days, venues = columns.days, columns.venues
    heads = [_trade_head(*days[code // len(venues)], venues[code % len(venues)]) for code in combined.tolist()]
    fields = [(columns.p, 8), (columns.z, 8), (columns.c, 8), *[(None, 0)] * 4]
    yield from _records(heads, head, [*fields, *_common(columns, at)])


def _quotes(columns: Columns) -> Iterator[bytes]:
    at = columns.quotes
    if not len(at):
        return
    heads = [_quote_head(symbol, session) for symbol, session in columns.days]
    fields = [(columns.b, 8), (columns.bz, 8), (columns.a, 8), (columns.az, 8)]
    yield from _records(heads, columns.day[at], [*fields, *_common(columns, at)])


def _common(columns: Columns, at: NDArray[np.intp]) -> list[_Field]:
    us, ns = np.divmod(columns.t[at], 1000)
    received_us = (columns.received_ms[at] - _EPOCH_MS) * 1000
    return [(us - _EPOCH_US, 8), (ns, 2), (columns.q[at], 8), (received_us, 8)]


def _records(heads: Sequence[bytes], head: Numbers, fields: Sequence[_Field]) -> Iterator[bytes]:
    """A record for each of `head`, which says by its place in `heads` how the record begins."""
    lengths = np.array([len(each) for each in heads])
    of_row = lengths[head]
    for length in np.unique(of_row).tolist():
        chosen = np.flatnonzero(of_row == length)
        layout = [("head", f"V{length}")]
        for number, (_, size) in enumerate(fields):
            layout += [(f"length{number}", ">i4"), (f"value{number}", f">i{size}")][: 2 if size else 1]
        records = np.empty(len(chosen), layout)
        padded = np.array([each.ljust(length)[:length] for each in heads], f"V{length}")
        records["head"] = padded[head[chosen]]
        for number, (values, size) in enumerate(fields):
            records[f"length{number}"] = size or -1
            if values is not None:
                records[f"value{number}"] = values[chosen]
        yield records.tobytes()


@lru_cache(maxsize=65_536)
def _trade_head(symbol: str, session: int, exch: str) -> bytes:
    return _head(symbol, session, b"T") + _sized(exch.encode())


@lru_cache(maxsize=16_384)
def _quote_head(symbol: str, session: int) -> bytes:
    return _head(symbol, session, b"Q") + 4 * _NULL


def _head(symbol: str, session: int, kind: bytes) -> bytes:
    return struct.pack(">h", len(COLUMNS)) + _sized(symbol.encode()) + struct.pack(">iq", 8, session) + _sized(kind)


def _sized(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value
