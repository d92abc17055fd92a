"""A process of the world and its supervisor: started again whenever it ends, with only what is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from infra.bus_memory import MemoryBus
from infra.clock import Clock, Ids
from infra.process import Part, run_parts
from tests.simulation.outside import FlakyBus, Weather
from tests.simulation.virtual import Process, VirtualLoop

START_S = (0.3, 1.5)
# After a death the group waits for the dead member, as for a session that times out.
SESSION_S = (0.5, 4.0)


@dataclass(frozen=True, slots=True)
class Life:
    """What one life of a process is given: a bus, ids and randomness of its own."""

    bus: FlakyBus
    ids: Ids
    clock: Clock
    weather: Weather


@dataclass(frozen=True, slots=True)
class Booted:
    """What runs in it, and whether it can do its work; `face` is what others may call."""

    parts: dict[str, Part]
    ready: Callable[[], bool]
    face: object = None


Boot = Callable[[Life], Awaitable[Booted]]


class Node:
    """One of our processes. `down` keeps it from being started again."""

    def __init__(
        self, name: str, boot: Boot, loop: VirtualLoop, bus: MemoryBus, clock: Clock, weather: Weather, random: Random
    ) -> None:
        self.name = name
        self.booted: Booted | None = None
        self.process: Process | None = None
        self.lives = 0
        self.failures: list[str] = []
        self.down = False
        self._boot = boot
        self._loop = loop
        self._bus = bus
        self._clock = clock
        self._weather = weather
        self._random = random
        self._own_bus: FlakyBus | None = None

    @property
    def ready(self) -> bool:
        running = self.process is not None and self.process.state == "running"
        return running and self.booted is not None and self.booted.ready()

    def start(self) -> None:
        self.lives += 1
        own_bus = self._own_bus = FlakyBus(self._bus, self._weather)
        life = Life(own_bus, Ids(self._clock, self._random.getrandbits(64)), self._clock, self._weather)
        process = self.process = Process(self.name, self.kill)
        process.spawn(self._live(life, process), self._loop)

    def kill(self, process: Process | None = None) -> None:
        """SIGKILL, or the end that it came to by itself."""
        if self.process is None or process not in (None, self.process):
            return
        self._loop.kill(self.process)
        self.process = self.booted = None
        left = self._own_bus
        assert left is not None
        outside = self._loop.outside
        session_s = self._random.uniform(*SESSION_S)
        self._loop.call_later(session_s, lambda: self._loop.create_task(left.left()), context=outside)
        if not self.down:
            self._loop.call_later(self._random.uniform(*START_S), self.start, context=outside)

    async def call(self, work: Callable[[object], Awaitable[object]], seconds: float) -> object | None:
        """Have this process do something for the caller, who waits so long; None when there was no answer."""
        if not self.ready or self.process is None or self.booted is None:
            return None
        task = self.process.spawn(_coroutine(work, self.booted.face), self._loop)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        return task.result() if done else None

    async def _live(self, life: Life, process: Process) -> None:
        try:
            booted = await self._boot(life)
            if self.process is process:
                self.booted = booted
            await run_parts(booted.parts, asyncio.Event())
        except Exception as error:  # noqa: BLE001 - it ends the process, as in production; the supervisor starts it again
            self.failures.append(repr(error))
        self._loop.call_soon(self.kill, process, context=self._loop.outside)


async def _coroutine(work: Callable[[object], Awaitable[object]], face: object) -> object:
    return await work(face)
