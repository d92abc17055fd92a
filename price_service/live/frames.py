"""A quote as its clients read it: the Quote JSON. Pure; made once per change, for all.

Prices are exact decimals; what is not known (no trade yet, an empty side of the book) is null. Most numbers of a quote
were in the one before it or in another one, so their texts are remembered: a quote is made some 14,000 times a second.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from infra.clock import NS_PER_S
from price_service.domain import text
from price_service.domain.days import Day

_TEXTS_KEPT_MAX = 65_536
_UNCHANGED = '"change":null,"changePercent":null,"volume":'
_FRESH = ',"stale":false,"age":null}'


def quote_json(day: Day, name: str, previous_close: int, age_s: int | None = None) -> bytes:
    """`previous_close` in micros, 0 when it is not known; `age_s` for a stale quote only."""
    price, size = day.last
    bid, ask, time_ns = day.bid, day.ask, day.time_ns
    # Beyond the second, which many share, a time is only digits. (A format such as `:09d` costs ten times as much.)
    time = f'"{_second(time_ns // NS_PER_S)}.{str(time_ns % NS_PER_S).zfill(9)}Z"' if time_ns else "null"
    change = _change(price, previous_close) if price and previous_close else _UNCHANGED
    end = _FRESH if age_s is None else f',"stale":true,"age":{age_s}}}'
    return (
        f'{_head(day.symbol, name)}{_price(price)},"size":{size or "null"},'
        f'"bid":{_price(bid)},"bidSize":{day.bid_size if bid else "null"},'
        f'"ask":{_price(ask)},"askSize":{day.ask_size if ask else "null"},'
        f"{_session(day.open, day.high, day.low, previous_close)}{change}{day.volume},"
        f'"time":{time},"receivedAt":{_received(day.received_ms)}{end}'
    ).encode()


@lru_cache(_TEXTS_KEPT_MAX)
def _price(micros: int) -> str:
    return text.decimal(micros) if micros else "null"


@lru_cache(_TEXTS_KEPT_MAX)
def _session(opened: int, high: int, low: int, previous_close: int) -> str:
    return (
        f'"open":{_price(opened)},"high":{_price(high)},"low":{_price(low)},"previousClose":{_price(previous_close)},'
    )


@lru_cache(_TEXTS_KEPT_MAX)
def _change(price: int, previous_close: int) -> str:
    change = text.decimal(price - previous_close)
    return f'"change":{change},"changePercent":{text.percent(price - previous_close, previous_close)},"volume":'


@lru_cache(_TEXTS_KEPT_MAX)
def _head(symbol: str, name: str) -> str:
    return f'{{"symbol":{_quoted(symbol)},"name":{_quoted(name)},"price":'


@lru_cache(4096)
def _second(second: int) -> str:
    return text.iso_seconds(second * NS_PER_S)[:-1]


@lru_cache(4096)
def _received(received_ms: int) -> str:
    return f'"{text.iso_ms(received_ms)}"' if received_ms else "null"


def _quoted(words: str) -> str:
    return msgspec.json.encode(words).decode()
