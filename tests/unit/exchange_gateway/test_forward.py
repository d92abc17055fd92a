"""The topic handler: per order in sequence, orders side by side, nothing done twice within a batch."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from exchange_gateway.orders.deliver import Delivery, Limits
from exchange_gateway.orders.forward import Forward
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import CancelRequest, NewOrder
from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.venue import VenueAway
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import ORDER_STATUS, Command, Reason, Report, decode, encode
from tests.unit.exchange_gateway.words import TRACE, cancel, command, message, order_id, read_all, until

NOT_SENT = Answer("not_sent", reason=Reason("venue_unreachable"))


class Gate(MemoryVenue):
    """The twin with a door: orders of a symbol in `away` do not get through; every request is noted."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock, {"AAPL": (99_000_000, 101_000_000), "MSFT": (99_000_000, 101_000_000)})
        self.away: set[str] = set()
        self.seen: list[str] = []
        self.slow = asyncio.Event()
        self.slow.set()

    async def submit(self, order: NewOrder) -> Answer:
        self.seen.append(order.cl_ord_id)
        if order.symbol in self.away:
            return NOT_SENT
        if order.symbol == "MSFT":
            await self.slow.wait()
        return await super().submit(order)

    async def cancel(self, request: CancelRequest) -> Answer:
        self.seen.append(request.cl_ord_id)
        return await super().cancel(request)


class Room:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        self.venue = Gate(self.clock)
        publisher = StatusPublisher(self.bus.producer(), self.clock)
        delivery = Delivery(self.venue, self.clock, Random(1), Limits(retry_s=0, ask_s=0), self.pause)
        self.forward = Forward(delivery, publisher, self.clock)

    async def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def reports(self) -> list[Report]:
        return [decode(Report, record.value) for record in await read_all(self.bus, ORDER_STATUS)]


async def test_submit_and_cancel_of_one_batch_keep_their_order() -> None:
    room = Room()
    assert await room.forward([message(command(), 0), message(cancel(), 1)]) == []
    assert [(r.exec_type, r.source, r.venue_seq) for r in await room.reports()] == [
        ("NEW", "answer", 1),
        ("CANCELED", "answer", 2),
    ]


async def test_records_are_keyed_and_carry_the_commands_headers() -> None:
    room = Room()
    await room.forward([message(command(), 0)])
    [record] = await read_all(room.bus, ORDER_STATUS)
    assert record.key == order_id().encode()
    assert record.header("idempotency-key") == b"key-1"
    assert record.header("traceparent") == TRACE.encode()
    assert record.header("event-id") == b"1700000000-1700000000-1-answer"


async def test_another_orders_trouble_delays_nobody() -> None:
    room = Room()
    room.venue.slow.clear()
    slow = asyncio.create_task(room.forward([message(command(1, symbol="MSFT"), 0), message(command(2), 1)]))
    await until(lambda: len(room.venue.seen) == 2)
    assert [r.order_id for r in await room.reports()] == [order_id(2)]
    room.venue.slow.set()
    await slow


async def test_what_is_done_is_not_sent_again_while_the_rest_waits() -> None:
    room = Room()
    room.venue.away = {"MSFT"}
    lost = command(2, symbol="MSFT")
    batch = [message(command(1), 0), message(lost, 1), message(cancel(2), 2)]
    for _ in range(3):
        with pytest.raises(VenueAway):
            await room.forward(batch)
    assert room.venue.seen.count(command(1).cl_ord_id) == 1
    assert cancel(2).cl_ord_id not in room.venue.seen, "the cancel waits behind its submit"
    room.venue.away = set()
    assert await room.forward(batch) == []
    found = sorted((r.order_id, r.venue_seq, r.exec_type) for r in await room.reports())
    assert found == [(order_id(1), 1, "NEW"), (order_id(2), 1, "NEW"), (order_id(2), 2, "CANCELED")]


async def test_the_same_commands_after_a_restart_double_nothing_at_the_venue() -> None:
    room = Room()
    batch = [message(command(quantity=5, limit_micros=101_000_000), 0)]
    await room.forward(batch)
    await room.forward(batch)  # the offset was not committed: the batch comes again
    reports = await room.reports()
    assert [r.source for r in reports] == ["answer", "answer", "query", "query"]
    assert len({r.exec_id for r in reports}) == 2
    assert (await room.venue.executions(0, 10)).total == 1


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"null", b'{"kind":"submit"}', encode(command(kind="dance")), encode(command(kind="cancel"))],
)
async def test_a_command_that_makes_no_sense_is_parked_and_the_next_one_is_handled(value: bytes) -> None:
    room = Room()
    [park] = await room.forward([message(value, 0), message(command(), 1)])
    assert (park.code, park.message.value) == ("malformed", value)
    assert len(await room.reports()) == 1


def send_outcome(report: Report) -> tuple[object, ...]:
    return report.kind, report.outcome, report.reason and report.reason.code, report.attempts, report.order_id


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (command(not_after_ns=1), ("send_outcome", "not_sent", "not_after_passed", 0, order_id())),
        (command(limit_micros=None), ("send_outcome", "refused", "malformed", 1, order_id())),
        (command(kind="query"), ("send_outcome", "unknown", "unknown_order", 1, order_id())),
    ],
)
async def test_what_is_not_simply_accepted_is_said(given: Command, expected: tuple[object, ...]) -> None:
    room = Room()
    await room.forward([message(given, 0)])
    [record] = await read_all(room.bus, ORDER_STATUS)
    assert send_outcome(decode(Report, record.value)) == expected
    assert record.header("event-id") == f"{given.event_id}-{expected[1]}".encode()


async def test_a_business_refusal_is_the_venues_own_report() -> None:
    room = Room()
    await room.forward([message(command(symbol="NOPE"), 0)])
    [report] = await room.reports()
    assert (report.kind, report.exec_type, report.outcome) == ("execution", "REJECTED", None)
    assert report.reason
    assert report.reason.code == "unknown_symbol"
