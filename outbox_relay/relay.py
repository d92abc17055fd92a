"""Committed outbox rows to the bus: every row at least once, the rows of one key in the order of their commits.

A source gives entries in order; each row becomes one record; only when a row *and all rows before it* are durable on
the bus is its position confirmed to the source. So whatever dies, what was not confirmed comes again. `Progress`
decides that and knows nothing of sockets; `Relay` is the loop around it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from infra.bus import Bus, BusError, Producer
from infra.clock import NS_PER_S, Clock, wait
from infra.db import TRANSIENT
from infra.outbox import OutboxRow, record_headers
from infra.telemetry import OUTBOX_LAG_SECONDS, OUTBOX_PUBLISHED

log = structlog.get_logger(__name__)

# How long a look for entries may take, and so how late a stop may be noticed.
LOOK_S = 0.2
RETRY_S_FIRST = 0.1
RETRY_S_MAX = 5.0
# A stream that lasted longer than this was sound: the next trouble is a new one.
SOUND_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in a source: a row to publish, or None where only the position matters (the end of a transaction).

    With a `position`, everything up to here may be confirmed by that number; positions rise. `created_ns` is when the
    row was written, if the source knows.
    """

    row: OutboxRow | None
    position: int | None
    created_ns: int | None = None


class Source(Protocol):
    """Committed rows that nobody has confirmed yet. A connection of its own; lost ones raise and are opened anew."""

    async def entries(self, wait_s: float) -> list[Entry]:
        """The next ones in order, each given once; none when there are none within `wait_s`."""
        ...

    async def confirm(self, position: int) -> None:
        """All up to `position` is durable on the bus and never needed again."""
        ...


class OpenSource(Protocol):
    def __call__(self, stop: asyncio.Event) -> AbstractAsyncContextManager[Source | None]:
        """Be the one reader of the source, which may mean to wait for another one's end. None: `stop` came first."""
        ...


class Step:
    """A row on its way. When it and all before it are done, `position` may be confirmed."""

    __slots__ = ("done", "position")

    def __init__(self, position: int | None) -> None:
        self.position = position
        self.done = False


class Progress:
    """The contiguous prefix: acknowledgements come in any order, confirmations never overtake a missing one."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self.confirmable: int | None = None

    @property
    def outstanding(self) -> int:
        """Rows since the first one that is not acknowledged."""
        return len(self._steps)

    def sent(self, position: int | None) -> Step:
        step = Step(position)
        self._steps.append(step)
        return step

    def passed(self, position: int) -> None:
        """A place without a row: as good as the last row before it."""
        if self._steps:
            self._steps[-1].position = position
        else:
            self.confirmable = position

    def acknowledged(self, step: Step) -> None:
        step.done = True
        while self._steps and self._steps[0].done:
            if (position := self._steps.popleft().position) is not None:
                self.confirmable = position


class Relay:
    """One reader of one source, for as long as the process lives."""

    def __init__(self, bus: Bus, open_source: OpenSource, clock: Clock, unacknowledged_max: int = 2000) -> None:
        self._bus = bus
        self._open = open_source
        self._clock = clock
        self._unacknowledged_max = unacknowledged_max
        self.streaming = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Lost connections and a bus in trouble are waited out; what was not confirmed is read again."""
        failures = 0
        while not stop.is_set():
            began_s = self._clock.monotonic_s()
            try:
                async with self._open(stop) as source:
                    if source is not None:
                        began_s = self._clock.monotonic_s()
                        await self._stream(source, stop)
            except (*TRANSIENT, BusError) as error:
                failures = 1 if self._clock.monotonic_s() - began_s > SOUND_S else failures + 1
                delay_s = min(RETRY_S_MAX, RETRY_S_FIRST * 2 ** min(failures, 10))
                log.warning("relay_interrupted", error=repr(error), next_attempt_s=delay_s)
                await wait(stop, delay_s)

    async def _stream(self, source: Source, stop: asyncio.Event) -> None:
        flow = _Flow(source, self._bus.producer(linger_ms=0), self._clock)
        self.streaming = True
        log.info("relay_streaming")
        try:
            await flow.run(stop, self._unacknowledged_max)
        finally:
            self.streaming = False
            await flow.close()


class _Flow:
    """From opening a source to losing it: one producer, so that nothing of an earlier attempt is still on its way."""

    def __init__(self, source: Source, producer: Producer, clock: Clock) -> None:
        self._source = source
        self._producer = producer
        self._clock = clock
        self._progress = Progress()
        self._confirmed: int | None = None
        self._moved = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stop: asyncio.Event, unacknowledged_max: int) -> None:
        reading = asyncio.ensure_future(self._read(stop, unacknowledged_max))
        confirming = asyncio.ensure_future(self._confirm_always())
        try:
            done, _ = await asyncio.wait({reading, confirming, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over = True  # a cancellation alone can be lost in a driver's `wait_for` before Python 3.12
            await _cancelled(reading, confirming)
        for task in done:
            task.result()

    async def close(self) -> None:
        """Let the bus finish what it was given and confirm that; a source that is lost has it read again."""
        await self._producer.close()
        with contextlib.suppress(*TRANSIENT):
            await self._confirm()
        if self._failed.done():
            self._failed.exception()  # it was raised, or came too late to matter

    async def _read(self, stop: asyncio.Event, unacknowledged_max: int) -> None:
        while not stop.is_set() and not self._over:
            if self._progress.outstanding >= unacknowledged_max:
                self._room.clear()
                await wait(self._room, LOOK_S)
                continue
            for entry in await self._source.entries(LOOK_S):
                self._publish(entry)

    def _publish(self, entry: Entry) -> None:
        row = entry.row
        if row is None:
            if entry.position is not None:
                self._progress.passed(entry.position)
                self._moved.set()
            return
        headers = record_headers(row.id, row.idempotency_key, row.traceparent)
        sending = self._producer.send(row.aggregatetype, row.aggregateid.encode(), row.payload.encode(), headers)
        sending.add_done_callback(self._settled(self._progress.sent(entry.position), entry.created_ns))

    def _settled(self, step: Step, created_ns: int | None) -> Callable[[asyncio.Future[None]], None]:
        def settled(sending: asyncio.Future[None]) -> None:
            if sending.cancelled():
                return
            if (error := sending.exception()) is not None:
                if not self._failed.done():
                    self._failed.set_exception(error)
                return
            self._progress.acknowledged(step)
            self._moved.set()
            self._room.set()
            OUTBOX_PUBLISHED.inc()
            if created_ns is not None:
                OUTBOX_LAG_SECONDS.observe(max(0, self._clock.now_ns() - created_ns) / NS_PER_S)

        return settled

    async def _confirm_always(self) -> None:
        while not self._over:
            await self._moved.wait()
            self._moved.clear()
            await self._confirm()

    async def _confirm(self) -> None:
        position = self._progress.confirmable
        if position is not None and position != self._confirmed:
            await self._source.confirm(position)
            self._confirmed = position


async def _cancelled(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
