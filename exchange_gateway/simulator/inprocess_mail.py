"""Webhooks without a network: in order per order, tried again until they are taken, lost when the venue dies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from exchange_gateway.simulator.messages import Numbered

FIRST_PAUSE_S, PAUSE_S_MAX = 0.1, 15.0
TRIES_MAX = 70  # a quarter of an hour

Sleep = Callable[[float], Awaitable[None]]
# Takes a report as JSON; whether it was answered with a 2xx.
Hook = Callable[[bytes], Awaitable[bool]]


class Tasks:
    """What runs beside its caller, in the order of its start: a seed repeats that too."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], None] = {}
        self._failures: list[BaseException] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._running[task] = None
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        for task in list(self._running):
            task.cancel()

    async def end(self) -> None:
        """Cancel what still runs. Raises what went wrong in a task."""
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._failures:
            raise self._failures[0]

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)


class Mail:
    """A Notify. One queue per order that has something waiting, each worked off by one task."""

    def __init__(self, hook: Hook, sleep: Sleep) -> None:
        self._hook = hook
        self._sleep = sleep
        self._queues: dict[str, deque[bytes]] = {}
        self._tasks = Tasks()

    def __call__(self, reports: Sequence[Numbered]) -> None:
        for numbered in reports:
            order = numbered.report.exchange_order_id or numbered.report.exec_id
            if order in self._queues:
                self._queues[order].append(numbered.body)
                continue
            queue = self._queues[order] = deque([numbered.body])
            self._tasks.start(self._work_off(order, queue))

    def lose(self) -> None:
        self._tasks.cancel()
        self._queues = {}

    async def end(self) -> None:
        """Raises what a hook raised."""
        await self._tasks.end()

    async def _work_off(self, order: str, queue: deque[bytes]) -> None:
        while queue:
            for tried in range(TRIES_MAX):
                if await self._hook(queue[0]):
                    break
                await self._sleep(min(FIRST_PAUSE_S * 2**tried, PAUSE_S_MAX))
            queue.popleft()
        if self._queues.get(order) is queue:
            del self._queues[order]
