"""The consumer of `orders`: takes commands as they come and keeps one lane per order.

Within an order commands go one after the other, so a cancel never overtakes its submit; orders go side by side, also
across what was read together, so one order's trouble never delays another. Per partition the contiguous prefix that is
done is committed, and only so many commands past it are started (`Window`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from exchange_gateway.orders.opened import Opened, opened
from exchange_gateway.orders.window import Window
from infra.bus import Bus, BusError, Message, Offsets, Producer, Subscription, TopicPartition
from infra.clock import NS_PER_MS, Clock
from infra.contracts import ORDERS
from infra.dlq.park import Park, park
from infra.telemetry import MESSAGES
from infra.worker import Stopping

log = structlog.get_logger(__name__)

GROUP = "exchange-gateway"
WAIT_S = 0.2
COMMIT_EVERY_S = 0.05
PAUSE_S = 0.5
# After a stop: how long requests that are under way get to be answered.
FINISH_S_MAX = 3.5
# Commands in memory, in windows: beyond the first they wait for their partition's prefix to move.
WINDOWS_MAX = 16


class Handler(Protocol):
    async def __call__(self, opened: Opened, maybe_sent: bool) -> Park | None: ...

    async def unhandled(self, opened: Opened, error: Exception) -> Park: ...


class Door(Protocol):
    """Whether commands are worth taking now."""

    def commands_wanted(self, most: int) -> int: ...

    async def wait_for_change(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Task:
    opened: Opened
    window: Window[_Task]

    @property
    def maybe_sent(self) -> bool:
        return self.window.maybe_sent(self.opened.message.offset, self.opened.message.timestamp_ms)


class Pump:
    """`assigned` is awaited before the first command of newly assigned partitions is taken; `insist` repeats a step
    until the bus takes it and raises Stopping when the process stops."""

    def __init__(
        self,
        bus: Bus,
        producer: Producer,
        handler: Handler,
        door: Door,
        clock: Clock,
        window_max: int,
        assigned: Callable[[], Awaitable[None]],
        insist: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._producer = producer
        self._handler = handler
        self._door = door
        self._clock = clock
        self._window_max = window_max
        self._assigned = assigned
        self._insist = insist
        self._windows: dict[TopicPartition, Window[_Task]] = {}
        self._lanes: dict[str, deque[_Task]] = {}
        self._running: dict[asyncio.Task[None], None] = {}
        self._moved = asyncio.Event()
        self._committed_s = clock.monotonic_s()
        self._failure: Exception | None = None
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: requests that are under way are finished and committed, the rest comes again."""
        self._stop = stop
        subscription = await self._bus.subscribe([ORDERS], GROUP, self._on_assigned)
        try:
            try:
                await self._follow(subscription)
            except Stopping:
                log.info("stopped_with_commands_unfinished", orders=len(self._lanes))
            await self._finish(subscription)
        finally:
            lanes = list(self._running)
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            await subscription.close()

    async def _follow(self, subscription: Subscription) -> None:
        messages: list[Message] = []

        async def read() -> None:
            messages[:] = await subscription.batch(wanted, WAIT_S)

        while not self._stop.is_set():
            if wanted := self._wanted():
                await self._insist(read)
                for message in messages:
                    self._take(message)
                messages.clear()
            else:
                await self._wait()
            if self._failure is not None:
                raise self._failure
            self._start()
            if self._commit_is_due():
                await self._insist(lambda: self._commit(subscription))
                self._start()

    def _commit_is_due(self) -> bool:
        waited = self._clock.monotonic_s() - self._committed_s >= COMMIT_EVERY_S
        return waited or any(window.is_full for window in self._windows.values())

    def _wanted(self) -> int:
        in_hand = sum(window.held for window in self._windows.values())
        return self._door.commands_wanted(min(self._window_max, WINDOWS_MAX * self._window_max - in_hand))

    async def _wait(self) -> None:
        """Until commands are done or the door opens."""
        self._moved.clear()
        ways = [asyncio.ensure_future(self._moved.wait()), asyncio.ensure_future(self._door.wait_for_change(PAUSE_S))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()

    async def _on_assigned(self, places: list[TopicPartition]) -> Offsets:
        """What is in hand of these partitions comes again from the committed offset: what has not begun is dropped, and
        what has begun ends without a word to the new window."""
        await self._assigned()
        now_ms = self._clock.now_ns() // NS_PER_MS
        for place in places:
            self._windows[place] = Window(self._window_max, now_ms)
        for lane in self._lanes.values():
            running, *waiting = lane
            lane.clear()
            lane += [running, *[task for task in waiting if self._is_current(task)]]
        return {}

    def _is_current(self, task: _Task) -> bool:
        message = task.opened.message
        return self._windows.get(TopicPartition(message.topic, message.partition)) is task.window

    def _take(self, message: Message) -> None:
        window = self._windows[TopicPartition(message.topic, message.partition)]
        window.take(message.offset, _Task(opened(message), window))

    def _start(self) -> None:
        for window in self._windows.values():
            for task in window.ready():
                name = task.opened.lane
                if name in self._lanes:
                    self._lanes[name].append(task)
                    continue
                self._lanes[name] = deque([task])
                running = asyncio.create_task(self._lane(name), name=f"order {name}")
                self._running[running] = None
                running.add_done_callback(self._running.pop)

    async def _lane(self, name: str) -> None:
        """The commands of one order, to the last that is there. When the process stops they come again."""
        lane = self._lanes[name]
        try:
            while lane and not self._stop.is_set():
                await self._settle(lane[0])
                lane.popleft()
        except Stopping:
            pass
        except Exception as error:  # noqa: BLE001 - what cannot even be parked ends the process, not this lane alone
            self._failure = error
        finally:
            del self._lanes[name]
            self._moved.set()

    async def _settle(self, task: _Task) -> None:
        verdict: Park | None
        try:
            verdict = await self._handler(task.opened, task.maybe_sent)
        except Stopping:
            raise
        except Exception as error:
            log.exception("command_cannot_be_handled", place=task.opened.place)
            verdict = await self._handler.unhandled(task.opened, error)
        if verdict is not None:
            parks = [verdict]
            await self._insist(lambda: park(self._producer, GROUP, parks))
        task.window.done(task.opened.message.offset)
        MESSAGES.labels(ORDERS).inc()
        self._moved.set()

    async def _commit(self, subscription: Subscription) -> None:
        self._committed_s = self._clock.monotonic_s()
        offsets = {place: offset for place, w in self._windows.items() if (offset := w.to_commit()) is not None}
        if offsets:
            await subscription.commit(offsets)
            for place, offset in offsets.items():
                self._windows[place].committed(offset)

    async def _finish(self, subscription: Subscription) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_S_MAX)
        try:
            await self._commit(subscription)
        except BusError as error:
            log.warning("not_committed_at_the_end", error=str(error))  # what is done comes again, and is found done
