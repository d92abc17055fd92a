"""Messages of `prices` become one batch for the store. Pure: no clock, no bus, no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from infra.bus import Message
from infra.contracts import Tick, Trade
from infra.dlq.park import Park
from price_service.domain.days import Day, DayKey
from price_service.ingest.bars import Minutes
from price_service.store.records import Batch, Move, Received

MALFORMED = "malformed"
SYMBOL_CHARACTERS_MAX = 16
EXCHANGE_CHARACTERS_MAX = 8
# Far above any real value, far below what the store's 64-bit columns and a minute's sums can hold.
VALUE_MAX = 1 << 60
PRICE_MICROS_MAX = 10**13
SIZE_MAX = 10**11

_decoder = msgspec.json.Decoder(Tick)


def decode(messages: Iterable[Message]) -> tuple[list[Received], list[Park]]:
    """The ticks, and a verdict for each message that is none. Every tick returned can be stored."""
    ticks: list[Received] = []
    parked: list[Park] = []
    decode_one = _decoder.decode
    for message in messages:
        try:
            tick = decode_one(message.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            parked.append(Park(message, MALFORMED, str(error)))
            continue
        if (fault := _fault(tick)) is None:
            ticks.append(Received(tick, message.partition, max(message.timestamp_ms, 0)))
        else:
            parked.append(Park(message, MALFORMED, fault))
    return ticks, parked


def keys(ticks: Iterable[Received]) -> set[tuple[int, DayKey]]:
    """The days that these ticks belong to, with their partitions."""
    found = {(partition, tick.s, tick.d) for tick, partition, _ in ticks}
    return {(partition, DayKey(symbol, session)) for partition, symbol, session in found}


def collect(ticks: Sequence[Received], days: Mapping[DayKey, Day], moves: list[Move]) -> Batch:
    """What to store. The days are changed: after a failure they must be loaded again."""
    batch = Batch(moves=moves)
    minutes = Minutes()
    changed: dict[tuple[str, int], Day] = {}
    for received in ticks:
        tick, _, received_ms = received
        key = (tick.s, tick.d)  # a plain tuple finds what a DayKey was stored under, at a third of the cost
        day = days[key]  # type: ignore[index]
        if not day.apply(tick, received_ms):
            batch.duplicates += 1
            continue
        changed[key] = day
        batch.ticks.append(received)
        if isinstance(tick, Trade):
            minutes.add(tick)
    batch.days = list(changed.values())
    batch.bars = minutes.bars()
    return batch


def moves(messages: Iterable[Message], offset_of: Callable[[int], int]) -> list[Move]:
    """Each partition's step from where it stood to after the last of these messages."""
    following: dict[int, int] = {}
    for message in messages:
        following[message.partition] = max(following.get(message.partition, 0), message.offset + 1)
    return [Move(partition, offset_of(partition), offset) for partition, offset in sorted(following.items())]


def _fault(tick: Tick) -> str | None:
    """Why this tick cannot be stored, or None. Odd prices are not faults: locked and crossed quotes are real."""
    symbol = tick.s
    if not (0 < len(symbol) <= SYMBOL_CHARACTERS_MAX and symbol.isascii() and symbol.isprintable()):
        return f"the symbol {symbol[:40]!r} cannot be one"
    if not (0 <= tick.d <= VALUE_MAX and 0 < tick.q <= VALUE_MAX and 0 < tick.t <= VALUE_MAX * 4):
        return "session, sequence or time is out of range"
    if isinstance(tick, Trade):
        if not (0 < tick.p <= PRICE_MICROS_MAX and 0 <= tick.z <= SIZE_MAX and 0 <= tick.c <= VALUE_MAX):
            return "price, size or conditions are out of range"
        if not (len(tick.x) <= EXCHANGE_CHARACTERS_MAX and tick.x.isascii() and "\0" not in tick.x):
            return "the venue code cannot be one"
    elif not (0 <= tick.b <= PRICE_MICROS_MAX and 0 <= tick.a <= PRICE_MICROS_MAX):
        return "a price is out of range"
    elif not (0 <= tick.bz <= SIZE_MAX and 0 <= tick.az <= SIZE_MAX):
        return "a size is out of range"
    return None
