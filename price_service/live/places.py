"""Where a client is in the ticks of its symbols, and how that is written as the id of an event. Pure.

The id is one `symbol:session:q` per symbol, joined by commas, where q is the highest number up to which the client has
got, or was told that it will not get, every tick. So a resume from any id leaves nothing out. It can repeat ticks that
were sent while a lower number was still missing; (symbol, session, sequence) identifies a tick.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.seen import Seen
from price_service.domain.symbols import CHARACTERS_MAX

_NUMBER_MAX = 1 << 62
_DIGITS_MAX = 19
_SHOWN_CHARS = 40
# What a symbol, two numbers and their separators can take.
ENTRY_CHARS_MAX = CHARACTERS_MAX + 2 * _DIGITS_MAX + 3


class Place(NamedTuple):
    """Everything up to `q` of this session is known. (0, 0): nothing of any session is."""

    session: int
    q: int


class Hole(NamedTuple):
    first: int
    last: int


def entry(symbol: str, place: Place) -> str:
    return f"{symbol}:{place.session}:{place.q}"


def places_of(text: str, symbols: Collection[str]) -> dict[str, Place]:
    """The places that `text` names, of these symbols only. Raises Refusal when it is no such id."""
    found: dict[str, Place] = {}
    # A stream may have followed other symbols before it was changed; so many at most are even looked at.
    if len(text) > ENTRY_CHARS_MAX * (len(symbols) + 100):
        raise _invalid(text)
    for entry in text.split(","):
        symbol, _, numbers = entry.partition(":")
        session, _, q = numbers.partition(":")
        place = Place(_number(session, text), _number(q, text))
        if not symbol or symbol in found:
            raise _invalid(text)
        found[symbol] = place
    return {symbol: found[symbol] for symbol in symbols if symbol in found}


def holes(seen: Seen, last: int) -> list[Hole]:
    """The runs of numbers up to `last` that are not in `seen`."""
    found: list[Hole] = []
    after = seen.contiguous
    for start, end in [*seen.above, (last + 1, last + 1)]:
        first, until = after + 1, min(start - 1, last)
        if first <= until:
            found.append(Hole(first, until))
        after = max(after, end)
    return found


def covered(seen: Seen, hole: Hole) -> Seen:
    """`seen` with the numbers of `hole` too."""
    contiguous, above = seen.contiguous, list[tuple[int, int]]()
    for first, last in sorted([*seen.above, hole]):
        if first <= contiguous + 1:
            contiguous = max(contiguous, last)
        elif above and first <= above[-1][1] + 1:
            above[-1] = (above[-1][0], max(above[-1][1], last))
        else:
            above.append((first, last))
    return Seen(contiguous, above)


def _number(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX and int(digits) <= _NUMBER_MAX):
        raise _invalid(text)
    return int(digits)


def _invalid(text: str) -> Exception:
    shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
    return refusal(reasons.LAST_EVENT_ID_INVALID, "Last-Event-ID", id=shown)
