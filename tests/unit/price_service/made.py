"""Ticks and messages for tests of the price side."""

from __future__ import annotations

from collections.abc import Iterable

from infra.bus import Message
from infra.clock import NS_PER_MS
from infra.contracts import PRICES, Quote, Tick, Trade, encode
from price_service.domain.days import Day, DayKey
from price_service.ingest.ticks import Gathering
from price_service.store.columns import Columns
from price_service.store.records import Batch, Move

SESSION = 1_700_000_000
T0 = 1_700_000_000_000_000_000
RECEIVED_MS = T0 // NS_PER_MS


def trade(
    q: int,
    micros: int = 100_000_000,
    size: int = 100,
    cond: int = 1,
    at_ns: int | None = None,
    symbol: str = "AAPL",
    session: int = SESSION,
) -> Trade:
    return Trade(symbol, session, q, T0 + q * NS_PER_MS if at_ns is None else at_ns, micros, size, cond, "Q")


def quote(
    q: int,
    bid: int = 99_990_000,
    ask: int = 100_010_000,
    size: int = 200,
    at_ns: int | None = None,
    symbol: str = "AAPL",
    session: int = SESSION,
) -> Quote:
    return Quote(symbol, session, q, T0 + q * NS_PER_MS if at_ns is None else at_ns, bid, size, ask, size)


def message(value: Tick | bytes | None, offset: int = 0, partition: int = 0) -> Message:
    raw = value if value is None or isinstance(value, bytes) else encode(value)
    key = b"" if value is None or isinstance(value, bytes) else value.s.encode()
    return Message(PRICES, partition, offset, key, raw, (), RECEIVED_MS)


def batch(ticks: Iterable[Tick], moves: list[Move], days: dict[DayKey, Day] | None = None, partition: int = 0) -> Batch:
    """What the ingest would store for these ticks; `days` goes on from earlier batches."""
    listed = list(ticks)
    known = {} if days is None else days
    for tick in listed:
        known.setdefault(DayKey(tick.s, tick.d), Day(tick.s, tick.d, partition))
    gathering = Gathering(known)
    list(gathering.add(Columns(listed, [RECEIVED_MS] * len(listed))))
    return gathering.batch(moves)
