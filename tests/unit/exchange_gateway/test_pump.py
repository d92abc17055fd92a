"""The consumer of `orders`: lanes, windows, commits, restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

import pytest

from exchange_gateway.orders import pump as pump_module
from exchange_gateway.orders.guarded import Guarded
from exchange_gateway.orders.opened import Opened
from exchange_gateway.orders.patience import Waiting
from exchange_gateway.orders.pump import GROUP, Pump
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.venue import VenueAway
from infra.bus_memory import MemoryBus, partition_of
from infra.clock import SystemClock
from infra.contracts import DLQ_SUFFIX, ORDERS
from infra.dlq.park import Park
from infra.worker import Stopping
from tests.unit.exchange_gateway.words import cancel, command, order_id, publish, read_all, until

FIRST = partition_of(order_id(1).encode(), 16)


class Handler:
    """Notes what it is given; an order in `slow` waits for its event, one in `poison` is parked, one in `bug` fails."""

    def __init__(self) -> None:
        self.began: list[tuple[str, str, bool]] = []
        self.ended: list[tuple[str, str]] = []
        self.slow: dict[str, asyncio.Event] = {}
        self.poison: set[str] = set()
        self.bug: set[str] = set()
        self.doomed: set[str] = set()

    async def __call__(self, opened: Opened, maybe_sent: bool) -> Park | None:
        self.began.append((opened.order_id, opened.kind, maybe_sent))
        if opened.order_id in self.slow:
            await self.slow[opened.order_id].wait()
        if opened.order_id in self.bug | self.doomed:
            raise KeyError(opened.order_id)
        self.ended.append((opened.order_id, opened.kind))
        return Park(opened.message, "malformed", "") if opened.order_id in self.poison else None

    async def unhandled(self, opened: Opened, error: Exception) -> Park:
        if opened.order_id in self.doomed:
            raise error
        return Park(opened.message, "handler_error", repr(error))


class House:
    def __init__(self, window_max: int = 8) -> None:
        self.clock = SystemClock()
        self.bus = MemoryBus(self.clock)
        self.window_max = window_max
        self.handler = Handler()
        self.assigned = 0

    def pump(self, stop: asyncio.Event) -> Pump:
        venue = Guarded(MemoryVenue(self.clock, {}), self.clock)
        patience = Waiting(stop, venue, Random(1))

        async def assigned() -> None:
            self.assigned += 1

        return Pump(
            self.bus,
            self.bus.producer(),
            self.handler,
            venue,
            self.clock,
            self.window_max,
            assigned,
            patience.insist,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.pump(stop).run(stop))
        try:
            yield task
        finally:
            stop.set()
            await asyncio.wait([task])

    async def committed(self) -> int:
        """How many records of `orders` a member that joins now would not see again."""
        total = len(await read_all(self.bus, ORDERS))
        fresh = await self.bus.subscribe([ORDERS], GROUP)
        left = 0
        while batch := await fresh.batch(1000, 0.001):
            left += len(batch)
        await fresh.close()
        return total - left


async def test_an_orders_commands_go_one_after_the_other_also_across_batches() -> None:
    house = House()
    held = house.handler.slow[order_id(1)] = asyncio.Event()
    async with house.running():
        await publish(house.bus, command(1))
        await until(lambda: house.handler.began)
        await publish(house.bus, cancel(1))
        await publish(house.bus, command(2))
        await until(lambda: house.handler.ended)
        assert house.handler.ended == [(order_id(2), "submit")], "the other order does not wait"
        assert len(house.handler.began) == 2
        held.set()
        await until(lambda: len(house.handler.ended) == 3)
    assert house.handler.ended[1:] == [(order_id(1), "submit"), (order_id(1), "cancel")]
    assert await house.committed() == 3


async def test_what_is_behind_an_open_command_is_done_but_not_committed() -> None:
    house = House(window_max=1000)
    held = house.handler.slow[order_id(1)] = asyncio.Event()
    async with house.running():
        await publish(house.bus, command(1))
        for number in range(2, 200):
            await publish(house.bus, command(number))
        await until(lambda: len(house.handler.ended) == 198)
        held.set()
    assert len(house.handler.ended) == 199
    assert await house.committed() == 199


async def test_no_more_than_the_window_goes_past_the_committed_offset() -> None:
    house = House(window_max=4)
    same = [number for number in range(1, 400) if partition_of(order_id(number).encode(), 16) == FIRST][:10]
    assert len(same) == 10
    held = house.handler.slow[order_id(same[0])] = asyncio.Event()
    async with house.running():
        for number in same:
            await publish(house.bus, command(number))
        other = next(number for number in range(400, 800) if partition_of(order_id(number).encode(), 16) != FIRST)
        await until(lambda: len(house.handler.ended) == 3)
        await publish(house.bus, command(other))
        await until(lambda: (order_id(other), "submit") in house.handler.ended)
        assert len(house.handler.began) == 5, "the window of the one partition is full, the others go on"
        held.set()
        await until(lambda: len(house.handler.ended) == 11)
    assert await house.committed() == 11


async def test_parked_commands_are_durable_before_they_are_committed_and_stop_nobody() -> None:
    house = House()
    house.handler.poison, house.handler.bug = {order_id(1)}, {order_id(2)}
    async with house.running():
        for number in (1, 2, 3):
            await publish(house.bus, command(number))
        await publish(house.bus, b"garbage", key="no order")
        await until(lambda: len(house.handler.began) == 4)
    parked = {
        record.key: record.header("kafka_dlt-exception-fqcn")
        for record in await read_all(house.bus, ORDERS + DLQ_SUFFIX)
    }
    assert parked == {order_id(1).encode(): b"malformed", order_id(2).encode(): b"handler_error"}
    assert await house.committed() == 4


async def test_what_cannot_even_be_parked_ends_the_process_uncommitted() -> None:
    house = House()
    house.handler.doomed = {order_id(1)}
    async with house.running() as task:
        await publish(house.bus, command(1))
        await asyncio.wait([task], timeout=5)
        with pytest.raises(KeyError):
            task.result()
    assert await house.committed() == 0


async def test_after_a_crash_only_what_may_have_been_sent_is_marked_so() -> None:
    house = House(window_max=2)
    same = [number for number in range(1, 400) if partition_of(order_id(number).encode(), 16) == FIRST][:5]
    house.handler.slow = {order_id(number): asyncio.Event() for number in same}
    async with house.running() as task:
        for number in same[:4]:
            await publish(house.bus, command(number))
        await until(lambda: len(house.handler.began) == 2)
        task.cancel()
        await asyncio.wait([task])
    assert await house.committed() == 0
    house.handler = Handler()
    async with house.running():
        await until(lambda: len(house.handler.ended) == 4)
        await publish(house.bus, command(same[4]))
        await until(lambda: len(house.handler.ended) == 5)
    maybe = [(number, sent) for number, (_, _, sent) in zip(same, house.handler.began, strict=True)]
    assert maybe == list(zip(same, [True, True, False, False, False], strict=True))
    assert house.assigned == 2


async def test_a_stop_finishes_what_is_under_way_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    held = house.handler.slow[order_id(1)] = asyncio.Event()
    stop = asyncio.Event()
    task = asyncio.create_task(house.pump(stop).run(stop))
    await publish(house.bus, command(1))
    await publish(house.bus, cancel(1))
    await until(lambda: house.handler.began)
    stop.set()
    asyncio.get_running_loop().call_later(0.05, held.set)
    await task
    assert house.handler.ended == [(order_id(1), "submit")]
    assert await house.committed() == 1
    monkeypatch.setattr(pump_module, "FINISH_S_MAX", 0.01)
    held.clear()
    house.handler.began.clear()
    async with house.running():
        await until(lambda: house.handler.began)
    assert await house.committed() == 1, "what does not end in time comes again"


async def test_a_partition_that_went_and_came_back_is_read_again_from_the_committed_offset() -> None:
    house = House()
    number = next(n for n in range(1, 400) if partition_of(order_id(n).encode(), 16) % 2)
    held = house.handler.slow[order_id(number)] = asyncio.Event()
    async with house.running():
        await publish(house.bus, command(number))
        await publish(house.bus, cancel(number))
        await until(lambda: house.handler.began)
        other = await house.bus.subscribe([ORDERS], GROUP)  # the second member gets the odd partitions
        assert len(await other.batch(100, 1)) == 2
        await other.close()
        await until(lambda: house.assigned == 2)
        held.set()
        await until(lambda: len(house.handler.ended) == 3)
    assert house.handler.began[1:] == [
        (order_id(number), "submit", True),  # so the venue is asked: the other member may have sent it
        (order_id(number), "cancel", True),
    ]
    assert await house.committed() == 2


# -- patience ----------------------------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_process() -> None:
    stop = asyncio.Event()
    patience = Waiting(stop, Guarded(MemoryVenue(SystemClock(), {}), SystemClock()), Random(1))
    await patience.pause(0.001)
    await patience.for_venue(1)
    async with asyncio.timeout(0.5):
        await patience.for_venue(0)  # the breaker closed meanwhile: no reason to wait
    stop.set()
    with pytest.raises(VenueAway):
        await patience.pause(60)
    with pytest.raises(Stopping):
        await patience.for_venue(1)

    async def away() -> None:
        raise ConnectionError

    with pytest.raises(Stopping):
        await patience.insist(away)
