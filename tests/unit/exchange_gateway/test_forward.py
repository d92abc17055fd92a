"""One command: delivered, told, parked, or stopped behind a parked one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from exchange_gateway.orders.deliver import Delivery, Limits
from exchange_gateway.orders.forward import Forward
from exchange_gateway.orders.opened import opened
from exchange_gateway.orders.outcome import HELD_BACK, Answer
from exchange_gateway.orders.parked import Parked
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import NewOrder
from exchange_gateway.reports.publish import StatusPublisher
from infra.bus import BusError, Message
from infra.bus_memory import MemoryBus, MemoryProducer
from infra.clock import ManualClock
from infra.contracts import ORDER_STATUS, ORDERS, Headers, Reason, Report, cl_ord_id, decode, encode
from infra.dlq.letters import REPLAYED_FROM
from infra.dlq.park import Park
from tests.unit.exchange_gateway.words import TRACE, cancel, command, message, order_id, read_all

NOT_SENT = Answer("not_sent", reason=Reason("venue_unreachable"))
BROKEN = b'{"kind":"submit","order_id":"%b","quantity":1.5}' % order_id().encode()
BROKEN_REPLACE = BROKEN.replace(b"submit", b"replace")


class Index:
    """The index of dead letters."""

    def __init__(self) -> None:
        self.listed: set[str] = set()

    async def ids(self, topic: str) -> set[str]:
        assert topic == ORDERS
        return set(self.listed)


class Eager:
    """A Patience that does not wait; it counts, and brings the venue back."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.waited: list[int] = []

    async def for_venue(self, tries: int) -> None:
        self.waited.append(tries)
        self._room.venue.refusals = self._room.venue.refusals[1:]

    async def insist(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await step()
            except BusError:
                self._room.refusals -= 1


class Twin(MemoryVenue):
    refusals: list[Answer] = []  # noqa: RUF012 - replaced, never changed
    submits = 0

    async def submit(self, order: NewOrder) -> Answer:
        if self.refusals:
            return self.refusals[0]
        self.submits += 1
        return await super().submit(order)


class Full(MemoryProducer):
    """Its queue is full as often as the room says."""

    def __init__(self, room: Room) -> None:
        super().__init__(room.bus)
        self._room = room

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        if self._room.refusals:
            raise BusError("the producer's queue is full")
        return super().send(topic, key, value, headers)


class Room:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        self.venue = Twin(self.clock, {"AAPL": (99_000_000, 101_000_000)})
        self.index = Index()
        self.parked = Parked(self.index)
        self.refusals = 0

        async def pause(seconds: float) -> None:
            self.clock.advance(seconds)

        delivery = Delivery(self.venue, lambda *_: None, lambda: 0, self.clock, Random(1), Limits(0, 0), pause)
        self.patience = Eager(self)
        self.forward = Forward(
            delivery, StatusPublisher(Full(self), self.clock), self.clock, self.parked, self.patience
        )

    async def take(self, *messages: Message, maybe_sent: bool = False) -> list[Park | None]:
        return [await self.forward(opened(each), maybe_sent) for each in messages]

    async def said(self) -> list[tuple[object, ...]]:
        """(exec type or outcome, ClOrdID's number, reason) of every report."""
        reports: list[Report] = [decode(Report, record.value) for record in await read_all(self.bus, ORDER_STATUS)]
        return [(r.exec_type or r.outcome, r.cl_ord_id[33:], r.reason.code if r.reason else None) for r in reports]


async def test_records_are_keyed_and_carry_the_commands_headers() -> None:
    room = Room()
    assert await room.take(message(command())) == [None]
    [record] = await read_all(room.bus, ORDER_STATUS)
    assert record.key == order_id().encode()
    assert record.header("idempotency-key") == b"key-1"
    assert record.header("traceparent") == TRACE.encode()
    assert record.header("event-id") == b"1700000000-1700000000-1-answer"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (command(not_after_ns=1), ("not_sent", "1", "not_after_passed")),
        (command(limit_micros=None), ("refused", "1", "malformed")),
        (command(kind="query"), ("unknown", "1", "unknown_order")),
        (command(symbol="NOPE"), ("REJECTED", "1", "unknown_symbol")),
    ],
)
async def test_what_is_not_simply_accepted_is_said(given: Any, expected: tuple[str, str, str]) -> None:
    room = Room()
    assert await room.take(message(given)) == [None]
    assert await room.said() == [expected]


async def test_a_request_that_the_venue_never_had_of_an_order_that_ended_is_too_late() -> None:
    """It was not heard of before the order was filled: nothing else will ever be said about it."""
    room = Room()
    await room.take(message(command(limit_micros=101_000_000)))
    late = command(kind="cancel", cl_ord_id=cl_ord_id(order_id(), 2), orig_cl_ord_id=cl_ord_id(order_id(), 1))
    await room.take(message(late, offset=1), maybe_sent=True)
    assert (await room.said())[-1] == ("refused", "2", "too_late")


async def test_the_same_command_after_a_restart_is_asked_about_and_doubles_nothing() -> None:
    room = Room()
    filled = message(command(limit_micros=101_000_000))
    await room.take(filled)
    await room.take(filled, maybe_sent=True)
    assert await room.said() == [("NEW", "1", None), ("TRADE", "1", None)] * 2
    assert (room.venue.submits, (await room.venue.executions(0, 10)).total) == (1, 1)


async def test_it_waits_for_the_venue_and_never_parks_for_that() -> None:
    room = Room()
    room.venue.refusals = [NOT_SENT, NOT_SENT, HELD_BACK, NOT_SENT]
    assert await room.take(message(command())) == [None]
    assert await room.said() == [("NEW", "1", None)]
    assert room.patience.waited == [1, 2, 0, 1], "what the breaker held back is tried as soon as it closes"


async def test_it_is_sent_once_and_told_until_the_bus_has_it() -> None:
    room = Room()
    room.refusals = 3
    await room.take(message(command()))
    assert (room.venue.submits, await room.said()) == (1, [("NEW", "1", None)])


# -- parking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key", "said"),
    [
        (BROKEN, b"", ("parked", "1", "malformed")),
        (b"{", order_id().encode(), ("parked", "1", "malformed")),
        (encode(command(kind="cancel")), b"", ("parked", "1", "malformed")),
        (encode(command(request=2, kind="dance")), b"", ("parked", "2", "malformed")),
        (encode(command(cl_ord_id="mine")), b"", ("parked", "1", "malformed")),
        (encode(command(cl_ord_id=cl_ord_id(order_id(2), 1))), b"", ("parked", "1", "malformed")),
        (b"null", b"key", None),
        (b"", b"", None),
    ],
)
async def test_what_makes_no_sense_is_parked_and_its_order_told(value: bytes, key: bytes, said: Any) -> None:
    room = Room()
    [park] = await room.take(message(value, 7, key))
    assert park
    assert (park.code, park.message.value) == ("malformed", value)
    assert await room.said() == ([said] if said else [])
    assert room.venue.submits == 0


async def test_what_follows_a_parked_command_is_blocked_by_it() -> None:
    room = Room()
    change = command(request=3, kind="replace", orig_cl_ord_id=cl_ord_id(order_id(), 1))
    first, *later = await room.take(
        message(BROKEN_REPLACE, 3), message(change, 4), message(cancel(request=4), 5), message(BROKEN, 6)
    )
    assert first
    assert [park and (park.code, "orders/0/3" in park.text) for park in later] == [("blocked_by", True)] * 3
    assert await room.said() == [
        ("parked", "1", "malformed"),
        ("not_sent", "3", "blocked_by"),
        ("not_sent", "4", "blocked_by"),
    ]
    assert await room.take(message(command(2))) == [None], "another order is not concerned"


async def test_a_question_about_a_parked_order_is_answered() -> None:
    room = Room()
    await room.take(message(command()), message(BROKEN_REPLACE))
    assert await room.take(message(command(kind="query"))) == [None]
    assert (await room.said())[-1] == ("NEW", "1", None)


async def test_a_cancel_of_a_submit_that_can_never_have_been_sent_ends_the_order() -> None:
    room = Room()
    assert [park and park.code for park in await room.take(message(BROKEN), message(cancel()))] == ["malformed", None]
    assert await room.said() == [("parked", "1", "malformed"), ("not_sent", "1", "blocked_by")]


async def test_a_broken_submit_of_an_order_that_the_venue_has_proves_nothing() -> None:
    room = Room()
    codes = [park and park.code for park in await room.take(message(command()), message(BROKEN), message(cancel()))]
    assert codes == [None, "malformed", "blocked_by"]
    assert (await room.said())[-1] == ("not_sent", "2", "blocked_by")


async def test_our_own_failure_is_parked_and_proves_nothing() -> None:
    room = Room()
    park = await room.forward.unhandled(opened(message(command())), KeyError("what"))
    assert (park.code, park.text) == ("handler_error", "KeyError: 'what'")
    [blocked] = await room.take(message(cancel()))
    assert blocked
    assert blocked.code == "blocked_by"


async def test_an_operators_replay_frees_the_order() -> None:
    room = Room()
    await room.take(message(BROKEN))
    assert await room.take(message(command(), 9, b"", (REPLAYED_FROM, b"letter"))) == [None]
    assert await room.take(message(cancel())) == [None]
    assert [said for said, _, _ in await room.said()] == ["parked", "NEW", "CANCELED"]


async def test_what_was_parked_before_is_loaded_and_what_was_decided_since_is_free() -> None:
    room = Room()
    room.index.listed = {order_id(1), order_id(2)}
    await room.parked.load()
    codes = [park and park.code for park in await room.take(message(command(1)), message(command(2)))]
    assert codes == ["blocked_by", "blocked_by"]
    room.index.listed = {order_id(2)}
    assert await room.take(message(command(1))) == [None]


async def test_what_the_index_does_not_know_yet_stays_parked() -> None:
    room = Room()
    await room.take(message(BROKEN))
    for _ in range(2):
        [park] = await room.take(message(command(request=3, kind="replace", orig_cl_ord_id=cl_ord_id(order_id(), 1))))
        assert park
        await room.parked.load()
    room.index.listed = {order_id()}
    await room.parked.load()
    room.index.listed = set()
    assert await room.take(message(command())) == [None]
