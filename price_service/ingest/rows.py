"""Ticks as rows of PostgreSQL's binary COPY format (PostgreSQL documentation, COPY, "Binary Format"). Pure.

One precompiled `struct` packs a whole row; it depends only on the lengths of the two texts in it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache

from infra.contracts import Trade
from price_service.store.records import Received

COLUMNS = (
    "ts",
    "ns",
    "symbol",
    "session",
    "q",
    "kind",
    "price_micros",
    "size",
    "cond",
    "exch",
    "bid_micros",
    "bid_size",
    "ask_micros",
    "ask_size",
    "received_at",
)

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = -1
# PostgreSQL counts microseconds from 2000-01-01 UTC.
_EPOCH_US = 946_684_800_000_000


def copied(ticks: Iterable[Received]) -> bytes:
    """The whole COPY: header, a row per tick, trailer."""
    parts = [_HEADER]
    count = len(COLUMNS)
    for tick, _, received_ms in ticks:
        symbol = tick.s.encode()
        us, ns = divmod(tick.t, 1000)
        ts, received = us - _EPOCH_US, received_ms * 1000 - _EPOCH_US
        if isinstance(tick, Trade):
            exch = tick.x.encode()
            row = _trade(len(symbol), len(exch))
            # fmt: off
            parts.append(row(
                count, 8, ts, 2, ns, len(symbol), symbol, 8, tick.d, 8, tick.q, 1, b"T",
                8, tick.p, 8, tick.z, 8, tick.c, len(exch), exch, _NULL, _NULL, _NULL, _NULL, 8, received,
            ))
        else:
            row = _quote(len(symbol))
            parts.append(
                row(
                    count,
                    8,
                    ts,
                    2,
                    ns,
                    len(symbol),
                    symbol,
                    8,
                    tick.d,
                    8,
                    tick.q,
                    1,
                    b"Q",
                    _NULL,
                    _NULL,
                    _NULL,
                    _NULL,
                    8,
                    tick.b,
                    8,
                    tick.bz,
                    8,
                    tick.a,
                    8,
                    tick.az,
                    8,
                    received,
                )
            )
            # fmt: on
    parts.append(_TRAILER)
    return b"".join(parts)


@lru_cache(maxsize=512)
def _trade(symbol: int, exch: int) -> Callable[..., bytes]:
    return struct.Struct(f">h iq ih i{symbol}s iq iq ic iq iq iq i{exch}s iiii iq").pack


@lru_cache(maxsize=64)
def _quote(symbol: int) -> Callable[..., bytes]:
    return struct.Struct(f">h iq ih i{symbol}s iq iq ic iiii iq iq iq iq iq").pack
