"""The market data frames of docs/venue-api.md, decoded as little as needed. Pure.

A tick is passed on in the very bytes that the venue sent; only its identity is read, for the record's key and id.
"""

from __future__ import annotations

import msgspec

from infra.contracts import decode


class Ticks(msgspec.Struct, frozen=True, tag_field="type", tag="ticks", gc=False):
    """`n` is the number, within the session, of the last tick of the frame, over all symbols."""

    session: int
    n: int
    ticks: list[msgspec.Raw]


class Instruments(msgspec.Struct, frozen=True, tag_field="type", tag="instruments"):
    instruments: list[msgspec.Raw]


class Status(msgspec.Struct, frozen=True, tag_field="type", tag="status"):
    status: msgspec.Raw


class Gap(msgspec.Struct, frozen=True, tag_field="type", tag="gap", rename={"first": "from", "last": "to"}):
    """Ticks `first` to `last` were asked for and are no longer kept; the venue may not know where they ended."""

    session: int
    first: int
    last: int | None


class Books(msgspec.Struct, frozen=True, tag_field="type", tag="depth", gc=False):
    """The visible books of some symbols; without numbers, as each is whole."""

    books: list[msgspec.Raw]


Frame = Ticks | Instruments | Status | Gap | Books


class TickId(msgspec.Struct, frozen=True, gc=False):
    """What identifies a tick: symbol, session, the symbol's sequence number in it."""

    s: str
    d: int
    q: int


class BookId(msgspec.Struct, frozen=True, gc=False):
    """What identifies a book: symbol, session, and its number among the symbol's books."""

    s: str
    d: int
    n: int


class Symbol(msgspec.Struct, frozen=True, gc=False):
    """The key of an instrument or a status; a status without one is about the whole market."""

    symbol: str = "*"


def frame_of(data: bytes) -> Frame:
    """Raises Malformed, also for a type of frame that we do not know (yet)."""
    frame: Frame = decode(Frame, data)
    return frame


def position_text(session: int, n: int) -> str:
    return f"{session}:{n}"


def position_of(text: str) -> tuple[int, int]:
    session, _, n = text.partition(":")
    return int(session), int(n)
