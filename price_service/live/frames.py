"""A quote as its clients read it: the Quote JSON, and the SSE event around it. Pure; made once per change, for all.

Prices are exact decimals; what is not known (no trade yet, an empty side of the book) is null.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from infra.sse import frame
from price_service.domain import text
from price_service.domain.days import Day


def quote_json(day: Day, name: str, previous_close: int, stale: bool) -> bytes:
    """`previous_close` in micros, 0 when it is not known."""
    price, size = day.last
    change = percent = "null"
    if price and previous_close:
        change = text.decimal(price - previous_close)
        percent = text.percent(price - previous_close, previous_close)
    time = f'"{text.iso(day.time_ns)}"' if day.time_ns else "null"
    received = f'"{text.iso_ms(day.received_ms)}"' if day.received_ms else "null"
    return (
        f'{{"symbol":{_quoted(day.symbol)},"name":{_quoted(name)},"price":{_price(price)},"size":{size or "null"},'
        f'"bid":{_price(day.bid)},"bidSize":{day.bid_size if day.bid else "null"},'
        f'"ask":{_price(day.ask)},"askSize":{day.ask_size if day.ask else "null"},'
        f'"open":{_price(day.open)},"high":{_price(day.high)},"low":{_price(day.low)},'
        f'"previousClose":{_price(previous_close)},"change":{change},"changePercent":{percent},'
        f'"volume":{day.volume},"time":{time},"receivedAt":{received},"stale":{"true" if stale else "false"}}}'
    ).encode()


def quote_frame(quote: bytes, received_ms: int) -> bytes:
    """One SSE event. Its id is the receive time, from which a resume can say what has changed since."""
    return frame(quote, id=str(received_ms))


def _price(micros: int) -> str:
    return text.decimal(micros) if micros else "null"


@lru_cache(maxsize=65_536)
def _quoted(words: str) -> str:
    return msgspec.json.encode(words).decode()
