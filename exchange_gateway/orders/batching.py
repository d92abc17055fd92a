"""Several orders in one request, when they wait anyway. Alone, an order waits for nobody: there is no timer, only what
queued while the requests before were under way (as in a database's group commit)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from exchange_gateway.orders.outcome import NO_ANSWER, Answer
from exchange_gateway.orders.ports import BATCH_MAX, Venue
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from infra.contracts import Reason

_CUT_OFF = Answer("unknown", reason=Reason(NO_ANSWER, "the request was cut off"))


class Batching:
    """A Venue in front of another one, with at most `sends_max` requests at one time."""

    def __init__(self, venue: Venue, sends_max: int) -> None:
        self._venue = venue
        self._room = asyncio.Semaphore(sends_max)
        self._queue: deque[tuple[NewOrder, asyncio.Future[Answer]]] = deque()
        self._called = False
        self._senders: set[asyncio.Task[None]] = set()

    async def submit(self, order: NewOrder) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append((order, answer))
        self._call()
        return await answer

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        return await asyncio.gather(*[self.submit(order) for order in orders])

    async def cancel(self, request: CancelRequest) -> Answer:
        async with self._room:
            return await self._venue.cancel(request)

    async def replace(self, request: ReplaceRequest) -> Answer:
        async with self._room:
            return await self._venue.replace(request)

    async def query(self, cl_ord_id: str) -> Answer:
        async with self._room:
            return await self._venue.query(cl_ord_id)

    def _call(self) -> None:
        """One sender at most waits for room; it takes whatever is there once it has some."""
        if self._queue and not self._called:
            self._called = True
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    async def _send(self) -> None:
        async with self._room:
            self._called = False
            taken = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            self._call()
            await self._answer([(order, done) for order, done in taken if not done.done()])

    async def _answer(self, taken: list[tuple[NewOrder, asyncio.Future[Answer]]]) -> None:
        """Whatever happens to the request, each order gets an answer: nobody waits for ever."""
        orders = [order for order, _ in taken]
        answers = [_CUT_OFF] * len(orders)
        try:
            if len(orders) == 1:
                answers = [await self._venue.submit(orders[0])]
            elif orders:
                answers = await self._venue.submit_batch(orders)
        finally:
            for (_, done), answer in zip(taken, answers, strict=True):
                if not done.done():
                    done.set_result(answer)
