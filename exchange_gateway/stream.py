"""Following a numbered stream of the venue onto the bus, without loss.

A position (how far the stream is durable on the bus) is stored at most once per second, and only after the bus has
acknowledged everything up to it: whoever follows next, after a SIGKILL too, asks the venue from there. What comes twice
is dropped by the consumers. Memory is bounded: while too much is unacknowledged the stream is not read, and TCP tells
the venue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from exchange_gateway.backoff import full_jitter_s
from infra.clock import Clock
from infra.clock import wait as wait_unless
from infra.db import TRANSIENT, Checkpoints

log = structlog.get_logger(__name__)

SAVE_EVERY_S = 1.0
CLOSE_S_MAX = 2.0
STANDBY_AFTER_S = 3.0
FIRST_PAUSE_S = 0.1
PAUSE_S_MAX = 5.0
RECORDS_IN_FLIGHT_MAX = 20_000
# The first thing that a connection gives: it is open, though the venue may have nothing to say yet.
OPEN = b""


class SourceLost(Exception):
    """The connection to a stream ended. Connecting again can help."""


class NeverReached(SourceLost):
    """The venue has never come as far as our position: its memory was wiped. Read again from the start."""


class Hole(Exception):
    """A number is missing within one connection: ask again from the last good one."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame handed to the bus: the position once all `records` are durable."""

    position: str
    records: list[asyncio.Future[None]]


class NumberedStream(Protocol):
    """One stream: how to ask for it, and what to do with a frame."""

    def frames(self, position: str | None) -> AsyncIterator[bytes]:
        """One connection, from `position` on (None: from where the venue likes): OPEN, then its frames. Ends, or raises
        SourceLost or NeverReached."""
        ...

    def take(self, frame: bytes) -> Taken | None:
        """Send the frame's records. None when there is nothing to wait for. Raises Hole."""
        ...


class Follower:
    """Runs one stream. A BusError ends it (and the process): a producer that failed a record cannot go on."""

    def __init__(
        self,
        name: str,
        stream: NumberedStream,
        checkpoints: Checkpoints,
        clock: Clock,
        random: Random,
        in_flight_max: int = RECORDS_IN_FLIGHT_MAX,
    ) -> None:
        self._name = name
        self._stream = stream
        self._checkpoints = checkpoints
        self._clock = clock
        self._random = random
        self._in_flight_max = in_flight_max
        self._unacknowledged: deque[Taken] = deque()
        self._in_flight = 0
        self._taken: str | None = None
        self._acknowledged: str | None = None
        self._saved: str | None = None
        self._failures = 0
        self._running = False
        self._connected = False
        self._born_s = clock.monotonic_s()

    def ready(self) -> bool:
        """Connected, or plainly not this process's turn to follow (another holds the lease)."""
        standing_by = not self._running and self._clock.monotonic_s() - self._born_s > STANDBY_AFTER_S
        return self._connected or standing_by

    async def run(self, stop: asyncio.Event) -> None:
        """A `Part`. Starts from the stored position each time, as another process may have moved it."""
        self._running = True
        stopping = asyncio.create_task(stop.wait())
        reading = None
        try:
            if not await self._load(stop):
                return
            reading = asyncio.create_task(self._read())
            while not stop.is_set():
                await asyncio.wait({reading, stopping}, timeout=SAVE_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
                await self._save()
        finally:
            stopping.cancel()
            await self._close(reading)
            self._running = self._connected = False

    async def _load(self, stop: asyncio.Event) -> bool:
        self._unacknowledged.clear()
        self._in_flight = 0
        while not stop.is_set():
            try:
                self._taken = self._acknowledged = self._saved = await self._checkpoints.read(self._name)
                return True
            except TRANSIENT as error:
                log.warning("position_not_read", stream=self._name, error=str(error))
                await wait_unless(stop, SAVE_EVERY_S)
        return False

    async def _read(self) -> None:
        """Connect, follow, and connect again, for ever."""
        while True:
            try:
                await self._connection()
                log.warning("stream_ended", stream=self._name)
            except NeverReached as error:
                log.error("stream_begins_anew", stream=self._name, error=str(error), position=self._taken)
                self._taken = None
            except (SourceLost, Hole) as error:
                log.warning("stream_lost", stream=self._name, error=str(error), position=self._taken)
            self._connected = False
            self._failures += 1
            await asyncio.sleep(full_jitter_s(self._failures, FIRST_PAUSE_S, PAUSE_S_MAX, self._random))

    async def _connection(self) -> None:
        frames = self._stream.frames(self._taken)
        try:
            async for frame in frames:
                self._connected = True
                if frame != OPEN:
                    self._failures = 0
                    await self._take(frame)
        finally:
            if isinstance(frames, AsyncGenerator):
                await frames.aclose()

    async def _take(self, frame: bytes) -> None:
        taken = self._stream.take(frame)
        if taken is not None:
            self._taken = taken.position
            self._unacknowledged.append(taken)
            self._in_flight += len(taken.records)
        self._advance()
        while self._in_flight > self._in_flight_max:
            await asyncio.wait([self._unacknowledged[0].records[-1]])
            self._advance()
        await asyncio.sleep(0)  # a source that never waits must not starve the orders

    def _advance(self) -> None:
        """Move the acknowledged position over every frame whose records are all durable. Raises BusError."""
        while self._unacknowledged:
            oldest = self._unacknowledged[0]
            while oldest.records and oldest.records[-1].done():
                oldest.records.pop().result()
                self._in_flight -= 1
            if oldest.records:
                return
            self._acknowledged = oldest.position
            self._unacknowledged.popleft()

    async def _save(self) -> None:
        self._advance()
        if self._acknowledged is None or self._acknowledged == self._saved:
            return
        position = self._acknowledged
        try:
            await self._checkpoints.write(self._name, position)
        except TRANSIENT as error:
            log.warning("position_not_written", stream=self._name, error=str(error))
        else:
            self._saved = position

    async def _close(self, reading: asyncio.Task[None] | None) -> None:
        if reading is None:
            return
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if outstanding := [record for taken in self._unacknowledged for record in taken.records]:
            await asyncio.wait(outstanding, timeout=CLOSE_S_MAX)
        await self._save()
