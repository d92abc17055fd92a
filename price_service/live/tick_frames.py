"""A tick as its clients read it: in the words of quotes, prices as exact decimals, null where there is none. Pure."""

from __future__ import annotations

import msgspec

from infra.contracts import Tick, Trade
from price_service.domain import text


def tick_json(tick: Tick, received_ms: int) -> bytes:
    """`conditions` are the venue's flag bits, `sequence` counts from 1 within the symbol's session."""
    head = (
        f'{{"symbol":{_quoted(tick.s)},"session":{tick.d},"sequence":{tick.q},'
        f'"time":"{text.iso(tick.t)}","receivedAt":"{text.iso_ms(received_ms)}",'
    )
    if isinstance(tick, Trade):
        return (
            f'{head}"kind":"trade","price":{text.decimal(tick.p)},"size":{tick.z},'
            f'"conditions":{tick.c},"exchange":{_quoted(tick.x)}}}'
        ).encode()
    return (
        f'{head}"kind":"quote","bid":{_price(tick.b)},"bidSize":{tick.bz if tick.b else "null"},'
        f'"ask":{_price(tick.a)},"askSize":{tick.az if tick.a else "null"}}}'
    ).encode()


def _price(micros: int) -> str:
    return text.decimal(micros) if micros else "null"


def _quoted(words: str) -> str:
    return msgspec.json.encode(words).decode()
