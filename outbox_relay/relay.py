"""Committed outbox rows to the bus: every row at least once, the rows of one key in the order of their commits.

A source gives entries in order; each row becomes one record; only when a row *and all rows before it* are durable on
the bus is its position confirmed to the source. So whatever dies, what was not confirmed comes again. `Progress`
decides that and knows nothing of sockets; `Relay` is the loop around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import structlog

from infra.bus import Bus, BusError, Producer
from infra.clock import NS_PER_S, Clock, wait
from infra.db import TRANSIENT
from infra.outbox import Record
from infra.telemetry import OUTBOX_LAG_SECONDS, OUTBOX_OUTSTANDING, OUTBOX_PUBLISHED, RELAY_INTERRUPTIONS

log = structlog.get_logger(__name__)

# How long a look for entries may take, and so how late a stop may be noticed.
LOOK_S = 0.2
# How often acknowledgements are counted. One by one they would wake the loop for each row, only to say less.
SETTLE_S = 0.01
RETRY_S_FIRST = 0.1
RETRY_S_MAX = 5.0
# A stream that lasted longer than this was sound: the next trouble is a new one.
SOUND_S = 10.0


class Entry(NamedTuple):
    """A place in a source: a record to publish, or None where only the position matters (the end of a transaction).

    With a `position`, everything up to here may be confirmed by that number; positions rise. `written_ns` is when the
    row was committed, or its transaction began, if the source knows.
    """

    record: Record | None
    position: int | None
    written_ns: int | None = None


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
    """A row on its way, acknowledged at `done_ns`. When it and all before it are, `position` may be confirmed."""

    __slots__ = ("done_ns", "position", "written_ns")

    def __init__(self, position: int | None, written_ns: int | None = None) -> None:
        self.position = position
        self.written_ns = written_ns
        self.done_ns: int | None = None


class Progress:
    """The contiguous prefix: acknowledgements come in any order, confirmations never overtake a missing one.

    A step may be marked done by any thread; all else is the event loop's.
    """

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self.confirmable: int | None = None

    @property
    def outstanding(self) -> int:
        """Rows since the first one that was not acknowledged when last counted."""
        return len(self._steps)

    def sent(self, position: int | None, written_ns: int | None = None) -> Step:
        step = Step(position, written_ns)
        self._steps.append(step)
        return step

    def passed(self, position: int) -> None:
        """A place without a row: as good as the last row before it."""
        if self._steps:
            self._steps[-1].position = position
        else:
            self.confirmable = position

    def settled(self) -> list[Step]:
        """Count: take the steps off that are done together with all before them."""
        found: list[Step] = []
        while self._steps and self._steps[0].done_ns is not None:
            found.append(step := self._steps.popleft())
            if step.position is not None:
                self.confirmable = step.position
        return found


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
                RELAY_INTERRUPTIONS.inc()
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
        self._given = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._failure: BusError | None = None

    async def run(self, stop: asyncio.Event, unacknowledged_max: int) -> None:
        reading = asyncio.ensure_future(self._read(stop, unacknowledged_max))
        settling = asyncio.ensure_future(self._settle_always())
        try:
            done, _ = await asyncio.wait({reading, settling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over = True  # a cancellation alone can be lost in a driver's `wait_for` before Python 3.12
            await _cancelled(reading, settling)
        for task in done:
            task.result()

    async def close(self) -> None:
        """Let the bus finish what it was given and confirm that; a source that is lost has it read again."""
        await self._producer.close()
        self._count()
        with contextlib.suppress(*TRANSIENT):
            await self._confirm()

    async def _read(self, stop: asyncio.Event, unacknowledged_max: int) -> None:
        while not stop.is_set() and not self._over:
            if self._progress.outstanding >= unacknowledged_max:
                self._room.clear()
                await wait(self._room, LOOK_S)
                continue
            if entries := await self._source.entries(LOOK_S):
                for entry in entries:
                    self._publish(entry)
                self._given.set()

    def _publish(self, entry: Entry) -> None:
        record, position, written_ns = entry
        if record is None:
            if position is not None:
                self._progress.passed(position)
            return
        delivered = functools.partial(self._delivered, self._progress.sent(position, written_ns))
        self._producer.post(*record, delivered)

    def _delivered(self, step: Step, error: BusError | None) -> None:
        """Runs in the producer's thread, so it only writes what nobody else does."""
        if error is None:
            step.done_ns = self._clock.now_ns()
        else:
            self._failure = error

    async def _settle_always(self) -> None:
        while not self._over:
            await self._given.wait()
            self._given.clear()
            await self._settle()
            while self._progress.outstanding:
                await asyncio.sleep(SETTLE_S)
                await self._settle()

    async def _settle(self) -> None:
        self._count()
        if self._failure is not None:
            raise self._failure
        await self._confirm()

    def _count(self) -> None:
        settled = self._progress.settled()
        OUTBOX_OUTSTANDING.set(self._progress.outstanding)
        if not settled:
            return
        self._room.set()
        OUTBOX_PUBLISHED.inc(len(settled))
        for step in settled:
            if step.written_ns is not None and step.done_ns is not None:
                OUTBOX_LAG_SECONDS.observe(max(0, step.done_ns - step.written_ns) / NS_PER_S)

    async def _confirm(self) -> None:
        position = self._progress.confirmable
        if position is not None and position != self._confirmed:
            await self._source.confirm(position)
            self._confirmed = position


async def _cancelled(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
