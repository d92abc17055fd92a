"""Where the next page of a long history goes on: opaque to the client, and the same whatever is traded meanwhile.

Pages go back in time, so a cursor is a time: the page ends before it. It repeats what the first page was asked for.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated

import msgspec

from infra.clock import NS_PER_S
from price_service.domain import reasons
from price_service.domain.points import Window
from price_service.domain.reasons import refusal
from price_service.domain.trading_days import NEW_YORK
from price_service.history.ranges import INTERVALS, TIMERANGES, Chosen

CHARACTERS_MAX = 200
# What may be repeated beside a cursor, all of it or nothing.
RANGE_WORDS = ("timerange", "from", "to", "interval", "adjusted")

_Time = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    symbol: str
    timerange: str | None
    interval: str
    adjusted: bool
    from_ns: _Time
    to_ns: _Time
    before_ns: _Time
    words: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Cursor)


def cursor(symbol: str, chosen: Chosen, adjusted: bool, words: bytes, before_ns: int) -> str:
    """`words` is the first page's `digest`."""
    window = chosen.window
    made = _Cursor(symbol, chosen.timerange, chosen.interval, adjusted, window.from_ns, window.to_ns, before_ns, words)
    return urlsafe_b64encode(_encoder.encode(made)).decode().rstrip("=")


def resumed(symbol: str, words: Mapping[str, str]) -> tuple[Chosen, bool, bytes]:
    """What `words["cursor"]` asks for: the range and its page, whether adjusted, and the first page's digest.

    Raises Refusal for what is none of our cursors, and for one that belongs to another symbol or range.
    """
    found = _decoded(words["cursor"])
    if found.symbol != symbol or (any(name in words for name in RANGE_WORDS) and digest(words) != found.words):
        raise refusal(reasons.CURSOR_OTHER, "cursor")
    bucket_ns, zone = INTERVALS[found.interval] * NS_PER_S, NEW_YORK if found.interval == "1d" else None
    window = Window(found.from_ns, found.to_ns, bucket_ns, zone)
    return Chosen(found.timerange, found.interval, window, found.before_ns), found.adjusted, found.words


def digest(words: Mapping[str, str]) -> bytes:
    """Of the words that say which history is asked for."""
    said = "&".join(f"{name}={words[name]}" for name in RANGE_WORDS if name in words)
    return blake2b(said.encode(), digest_size=6).digest()


def _decoded(raw: str) -> _Cursor:
    if len(raw) <= CHARACTERS_MAX:
        try:
            found = _decoder.decode(b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True))
        except (ValueError, msgspec.MsgspecError):
            found = None
        if found is not None and _sensible(found):
            return found
    raise refusal(reasons.CURSOR_INVALID, "cursor")


def _sensible(found: _Cursor) -> bool:
    """Whoever wrote it, it must not ask for more than a request in words could. Seconds never have a second page."""
    return (
        found.interval in INTERVALS
        and found.interval != "1s"
        and (found.timerange is None or found.timerange in TIMERANGES)
        and found.from_ns < found.before_ns <= found.to_ns
    )
