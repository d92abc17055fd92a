"""The numbered stream of all reports onto `order-status`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exchange_gateway.reports.drop_copy import DropCopy
from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.stream import Hole
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import ORDER_STATUS, Malformed, Report, decode, encode
from tests.unit.exchange_gateway.words import order_id, read_all, venue_report


class Source:
    async def frames(self, after: int) -> AsyncIterator[bytes]:
        yield str(after).encode()


class Room:
    def __init__(self, position: str | None = None) -> None:
        clock = ManualClock()
        self.bus = MemoryBus(clock)
        self.drop_copy = DropCopy(Source(), StatusPublisher(self.bus.producer(), clock))
        self.connection = self.drop_copy.frames(position)


def frame(n: int, **changes: object) -> bytes:
    return encode({"n": n, "report": venue_report(**changes)})


@pytest.mark.parametrize(("position", "asked"), [(None, b"0"), ("17", b"17")])
async def test_it_asks_from_the_stored_number(position: str | None, asked: bytes) -> None:
    assert [after async for after in Room(position).connection] == [asked]


async def test_a_report_is_published_as_of_the_drop_copy() -> None:
    room = Room()
    taken = room.drop_copy.take(frame(1))
    assert taken
    assert taken.position == "1"
    [record] = await read_all(room.bus, ORDER_STATUS)
    report: Report = decode(Report, record.value)
    assert (report.source, report.order_id, report.last_qty) == ("drop_copy", order_id(), 4)
    assert record.header("event-id") == b"1700000000-1700000000-1-drop_copy"
    assert record.header("idempotency-key") == b"1700000000-1"


async def test_a_stranger_keeps_its_own_name() -> None:
    room = Room()
    room.drop_copy.take(frame(1, cl_ord_id="from-another-desk"))
    [record] = await read_all(room.bus, ORDER_STATUS)
    assert record.key == b"from-another-desk"
    assert decode(Report, record.value).order_id == "from-another-desk"


async def test_a_hole_is_asked_for_again() -> None:
    room = Room("3")
    room.drop_copy.take(frame(4))
    with pytest.raises(Hole):
        room.drop_copy.take(frame(6))


async def test_what_the_venue_does_not_have_is_passed() -> None:
    room = Room("3")
    taken = room.drop_copy.take(frame(9))
    assert taken
    assert taken.position == "9"


async def test_a_gap_moves_the_position() -> None:
    room = Room("3")
    taken = room.drop_copy.take(b'{"gap":{"from":4,"to":7}}')
    assert taken
    assert (taken.position, taken.records) == ("7", [])
    assert room.drop_copy.take(frame(8))


@pytest.mark.parametrize(
    ("report", "key"),
    [
        (b'{"cl_ord_id":"abc","exec_type":"NOVEL"}', b"abc"),
        (b'{"cl_ord_id":5}', b""),
        (b"null", b""),
    ],
)
async def test_an_unreadable_report_is_passed_on_untouched_for_the_consumer_to_park(report: bytes, key: bytes) -> None:
    room = Room()
    taken = room.drop_copy.take(b'{"n":1,"report":%b}' % report)
    assert taken
    assert taken.position == "1"
    [record] = await read_all(room.bus, ORDER_STATUS)
    assert (record.key, record.value) == (key, report)
    with pytest.raises(Malformed):
        decode(Report, record.value)


@pytest.mark.parametrize("broken", [b"", b"{", b'{"n":"1","report":{}}', b'{"n":1}'])
async def test_a_frame_without_a_number_is_passed(broken: bytes) -> None:
    assert Room().drop_copy.take(broken) is None
