"""Messages of `prices` as ticks. Whatever is returned can be stored: the hub and the ingest call the same a tick."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from infra.bus import Message
from infra.contracts import Tick, Trade

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode = msgspec.json.Decoder(Tick).decode


def ticks_of(messages: Sequence[Message]) -> Sequence[Tick | None]:
    """The tick of each message, None where it is none. Fast when all are ticks, which is nearly always."""
    try:
        ticks = [_decode(message.value or b"") for message in messages]
    except _UNREADABLE:
        return [_tick_of(message) for message in messages]
    # Of many ticks there are few different words.
    if all(map(_is_plain, {tick.s for tick in ticks} | {tick.x for tick in ticks if type(tick) is Trade})):
        return ticks
    return [_tick_of(message) for message in messages]


def fault_of(message: Message) -> str | None:
    """Why a message is no tick, or None. Odd prices are not faults: locked and crossed quotes are real."""
    try:
        tick = _decode(message.value or b"")
    except _UNREADABLE as error:
        return str(error)
    words = [tick.s, tick.x] if isinstance(tick, Trade) else [tick.s]
    return next((f"{word!r} is no symbol or venue code" for word in words if not _is_plain(word)), None)


def _tick_of(message: Message) -> Tick | None:
    return _decode(message.value or b"") if fault_of(message) is None else None


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isprintable()
