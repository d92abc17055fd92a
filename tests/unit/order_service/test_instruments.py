"""The catalogue: what it makes of the topic `instruments`."""

from __future__ import annotations

from infra.bus import Message
from infra.contracts import INSTRUMENTS, Instrument, encode
from order_service.domain.checks import Listing
from order_service.placing.instruments import merged


def said(symbol: str, value: bytes | None) -> Message:
    return Message(INSTRUMENTS, 0, 0, symbol.encode(), value, (), 0)


def listing(symbol: str, tick: int = 10_000, lot: int = 1) -> Message:
    return said(symbol, encode(Instrument(symbol, "Name", tick, lot, 1)))


def test_listings_are_merged_and_the_old_ones_stay_as_they_were() -> None:
    first = merged({}, [listing("A"), listing("B")])
    second = merged(first, [listing("A", tick=50_000), said("B", None), listing("C", lot=100)])
    assert dict(first) == {"A": Listing("A", 10_000, 1), "B": Listing("B", 10_000, 1)}
    assert dict(second) == {"A": Listing("A", 50_000, 1), "C": Listing("C", 10_000, 100)}


def test_what_cannot_be_read_is_left_out() -> None:
    assert dict(merged({}, [said("A", b"{"), listing("B", tick=0), listing("C", lot=0), listing("D")])).keys() == {"D"}
