"""The venue behind its breaker, and several orders in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from exchange_gateway.orders.batching import Batching
from exchange_gateway.orders.breaker import FAILURES_MAX, FIRST_OPEN_S
from exchange_gateway.orders.guarded import Guarded
from exchange_gateway.orders.outcome import HELD_BACK, Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from infra.clock import ManualClock
from infra.contracts import Reason
from tests.unit.exchange_gateway.words import until, venue_report

ORDER = NewOrder(cl_ord_id="1", symbol="AAPL", side="BUY", ord_type="LIMIT", tif="DAY", quantity=1, limit_micros=10_000)
CANCEL = CancelRequest(orig_cl_ord_id="1", cl_ord_id="2")
REPLACE = ReplaceRequest(orig_cl_ord_id="1", cl_ord_id="2", quantity=1, limit_micros=None)
NEW = Answer("accepted", (venue_report(exec_type="NEW"),))
LOST = Answer("unknown", reason=Reason("no_answer"))
AWAY = Answer("not_sent", reason=Reason("venue_unreachable"))
GARBAGE = Answer("unknown", reason=Reason("unreadable_answer"))
TOO_FAST = Answer("not_sent", reason=Reason("http_429"), retry_after_s=3.0)


class Venue:
    """Answers `answer` to everything once `gate` is open, and notes what came."""

    def __init__(self, answer: Answer = NEW) -> None:
        self.answer = answer
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[list[str]] = []
        self.under_way = self.most = 0

    async def submit(self, order: NewOrder) -> Answer:
        return (await self._take([order.cl_ord_id]))[0]

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        return await self._take([order.cl_ord_id for order in orders])

    async def cancel(self, request: CancelRequest) -> Answer:
        return (await self._take(["cancel"]))[0]

    async def replace(self, request: ReplaceRequest) -> Answer:
        return (await self._take(["replace"]))[0]

    async def query(self, cl_ord_id: str) -> Answer:
        return (await self._take(["query"]))[0]

    async def _take(self, ids: list[str]) -> list[Answer]:
        self.seen.append(ids)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        return [self.answer] * len(ids)


Ask = Callable[[Guarded], Awaitable[Answer | list[Answer]]]
ASKS: list[Ask] = [
    lambda venue: venue.submit(ORDER),
    lambda venue: venue.submit_batch([ORDER, ORDER]),
    lambda venue: venue.cancel(CANCEL),
    lambda venue: venue.replace(REPLACE),
    lambda venue: venue.query("1"),
]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("answer", [LOST, AWAY])
async def test_silence_opens_it_and_then_nothing_is_sent(ask: Ask, answer: Answer) -> None:
    venue = Venue(answer)
    guarded = Guarded(venue, ManualClock())
    for _ in range(FAILURES_MAX):
        assert guarded.commands_wanted(7) == 7
        await ask(guarded)
    assert guarded.commands_wanted(7) == 0
    held = await ask(guarded)
    assert held in (HELD_BACK, [HELD_BACK, HELD_BACK])
    assert len(venue.seen) == FAILURES_MAX


async def test_an_answer_that_makes_no_sense_is_still_an_answer() -> None:
    guarded = Guarded(Venue(GARBAGE), ManualClock())
    for _ in range(3 * FAILURES_MAX):
        await guarded.submit(ORDER)
    assert guarded.closed


async def test_one_probe_decides_and_all_who_wait_are_woken() -> None:
    clock, venue = ManualClock(), Venue(AWAY)
    guarded = Guarded(venue, clock)
    for _ in range(FAILURES_MAX):
        await guarded.submit(ORDER)
    clock.advance(FIRST_OPEN_S)
    assert guarded.commands_wanted(7) == 1
    venue.answer, venue.seen = NEW, []
    venue.gate.clear()
    probe = asyncio.create_task(guarded.submit(ORDER))
    await until(lambda: venue.seen)
    assert await guarded.submit(ORDER) == HELD_BACK
    waiting = asyncio.create_task(guarded.wait_for_change(60))
    venue.gate.set()
    assert await probe == NEW
    async with asyncio.timeout(5):
        await waiting
    assert guarded.closed


async def test_a_probe_that_is_cut_off_does_not_leave_it_half_open() -> None:
    clock, venue = ManualClock(), Venue(AWAY)
    guarded = Guarded(venue, clock)
    for _ in range(FAILURES_MAX):
        await guarded.submit(ORDER)
    clock.advance(FIRST_OPEN_S)
    venue.gate.clear()
    probe = asyncio.create_task(guarded.submit(ORDER))
    await until(lambda: venue.under_way)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    clock.advance(60)
    assert guarded.commands_wanted(7) == 1


async def test_the_pause_that_the_venue_asks_for_holds_for_every_request() -> None:
    clock, venue = ManualClock(), Venue(TOO_FAST)
    guarded = Guarded(venue, clock)
    assert await guarded.submit(ORDER) == TOO_FAST
    venue.answer = NEW
    for ask in ASKS:
        assert await ask(guarded) in (HELD_BACK, [HELD_BACK, HELD_BACK])
    clock.advance(2.9)
    assert await guarded.submit(ORDER) == HELD_BACK
    clock.advance(0.2)
    assert await guarded.submit(ORDER) == NEW


# -- batches -----------------------------------------------------------------------------------------------------------


def orders(count: int) -> list[NewOrder]:
    return [msgspec.structs.replace(ORDER, cl_ord_id=str(number)) for number in range(count)]


async def test_alone_an_order_goes_alone() -> None:
    venue = Venue()
    batching = Batching(venue, 2)
    for order in orders(3):
        assert await batching.submit(order) == NEW
    assert venue.seen == [["0"], ["1"], ["2"]]


async def test_what_queued_meanwhile_goes_together_in_bounded_requests() -> None:
    venue = Venue()
    venue.gate.clear()
    batching = Batching(venue, 2)
    tasks = [asyncio.create_task(batching.submit(order)) for order in orders(1)]
    await until(lambda: len(venue.seen) == 1)
    tasks += [asyncio.create_task(batching.submit(order)) for order in orders(30)]
    await until(lambda: len(venue.seen) == 2)
    tasks += [asyncio.create_task(batching.submit(order)) for order in orders(250)]
    tasks.append(asyncio.create_task(batching.cancel(CANCEL)))
    await asyncio.sleep(0)
    assert [len(ids) for ids in venue.seen] == [1, 30]
    venue.gate.set()
    assert set(await asyncio.gather(*tasks)) == {NEW}
    assert sorted(len(ids) for ids in venue.seen if ids != ["cancel"]) == [1, 30, 50, 100, 100]
    assert venue.most == 2


async def test_each_order_of_a_batch_gets_its_own_answer() -> None:
    class Mixed(Venue):
        async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
            return [NEW if order.cl_ord_id == "1" else LOST for order in orders]

    assert await Batching(Mixed(), 1).submit_batch(orders(3)) == [LOST, NEW, LOST]


async def test_who_gave_up_waiting_is_not_sent() -> None:
    venue = Venue()
    venue.gate.clear()
    batching = Batching(venue, 1)
    first, second, third = (asyncio.create_task(batching.submit(order)) for order in orders(3))
    await until(lambda: len(venue.seen) == 1)
    later = [asyncio.create_task(batching.submit(order)) for order in orders(5)[3:]]
    await asyncio.sleep(0)
    later[0].cancel()
    venue.gate.set()
    assert set(await asyncio.gather(first, second, third, later[1])) == {NEW}
    assert venue.seen == [["0", "1", "2"], ["4"]]
