"""Virtual time: an event loop that jumps to the next timer instead of waiting, and processes that die as by SIGKILL.

One thread, no sockets, no real time: the same seed gives the same run, callback by callback. A process is everything
that runs in its context, the tasks and timers that it starts included. A killed one is never stepped again, not even
its `finally` blocks; a stalled one stands still as under SIGSTOP, and goes on where it was.
"""

from __future__ import annotations

import asyncio
from asyncio.events import Handle, TimerHandle
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop
from typing import Any, Literal, NoReturn, TypeVar

from infra.clock import NS_PER_S

T = TypeVar("T")
STEPS_PER_INSTANT_MAX = 200_000
EPOCH_NS = 1_750_000_000 * NS_PER_S


class Stuck(RuntimeError):
    """Nothing will ever happen again, or time does not pass any more."""


class Process:
    """One process of the world. `fuse` kills it before its n-th next callback: at any await, not only at idle ones."""

    def __init__(self, name: str, died: Callable[[Process], None]) -> None:
        self.name = name
        self.state: Literal["running", "stalled", "dead"] = "running"
        self.fuse: int | None = None
        self.context: Context = copy_context()
        self.context.run(_current.set, self)
        self.held: list[Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._died = died

    def spawn(self, work: Coroutine[Any, Any, T], loop: VirtualLoop) -> asyncio.Task[T]:
        """Run something as part of this process, which may die meanwhile: then the task never ends."""
        return loop.create_task(work, context=self.context)

    def registered(self, task: asyncio.Task[Any]) -> None:
        self.tasks.append(task)
        if len(self.tasks) > 256:
            self.tasks = [one for one in self.tasks if not one.done()]

    def burnt(self) -> bool:
        """One more callback; True when it is the one at which the fuse kills the process."""
        assert self.fuse is not None
        self.fuse -= 1
        if self.fuse > 0:
            return False
        self.fuse = None
        self._died(self)
        return True


_current: ContextVar[Process | None] = ContextVar("process", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop; to wait is to move the clock. `callbacks` counts what ran through it: the cost of a run, and
    its fingerprint."""

    _ready: Any  # deque[Handle]; this one, the timers' heap and the flag are BaseEventLoop's
    _scheduled: list[Any]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._steps = 0
        self.callbacks = 0
        self.outside: Context = copy_context()  # of no process
        self.free: set[asyncio.Task[Any]] = set()  # tasks of no process
        self.buried: list[asyncio.Task[Any]] = []
        self.set_task_factory(_registered)

    def time(self) -> float:
        return self.now_s

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Handle:
        self.callbacks += 1
        handle = Handle(callback, args, self, context)
        process = _current.get() if context is None else context.get(_current)
        if process is None or (process.state == "running" and (process.fuse is None or not process.burnt())):
            self._ready.append(handle)
        elif process.state == "stalled":
            process.held.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> TimerHandle:
        process = _current.get() if context is None else context.get(_current)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        own: list[TimerHandle] = []
        own.append(super().call_at(when, self._due, own, process, callback, args, context=context))
        return own[0]

    def kill(self, process: Process) -> None:
        """SIGKILL. What it held in memory is gone; its tasks are kept, unstepped, so that nothing of them is run."""
        process.state = "dead"
        self._withdrawn(process)
        process.held.clear()
        self.buried += process.tasks
        process.tasks.clear()

    def stall(self, process: Process) -> None:
        if process.state == "running":
            process.state = "stalled"
            process.held += self._withdrawn(process)

    def resume(self, process: Process) -> None:
        if process.state == "stalled":
            process.state = "running"
            self._ready.extend(process.held)
            process.held = []

    def bury(self) -> None:
        """At the end of the world: close what the dead left, so that the garbage collector finds nothing to run."""
        self.call_soon = _nothing  # type: ignore[method-assign,assignment]
        for task in [*self.buried, *self.free]:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _closed(task.get_coro())
        self.buried.clear()
        self.free.clear()

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no threads in virtual time")

    def call_soon_threadsafe(self, *_: Any, context: Context | None = None) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no threads in virtual time")

    def _run_once(self) -> None:
        """BaseEventLoop's, without files to watch: a turn is what was ready when it began, or else the next timers."""
        ready, timers = self._ready, self._scheduled
        if ready or self._stopping:
            self._steps += 1
            if self._steps > STEPS_PER_INSTANT_MAX:
                raise Stuck(f"{self._steps} turns of the loop at {self.now_s} s: time does not pass any more")
        else:
            while timers and timers[0]._cancelled:
                heappop(timers)._scheduled = False
            if not timers:
                raise Stuck("every task waits for something that nothing will do")
            self.now_s, self._steps = max(self.now_s, timers[0]._when), 0
        while timers and timers[0]._when <= self.now_s:
            timer = heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Dropped when its time comes."""

    def _due(self, own: list[TimerHandle], process: Process, callback: Any, args: tuple[Any, ...]) -> None:
        if process.state == "running":
            callback(*args)
        elif process.state == "stalled":
            process.held.append(own[0])  # the same one, so that it can still be cancelled

    def _withdrawn(self, process: Process) -> list[Handle]:
        """Its callbacks that were about to run. The queue keeps its length: the loop is counting it."""
        taken = []
        for i, handle in enumerate(self._ready):
            if not handle.cancelled() and handle._context.get(_current) is process:
                taken.append(handle)
                self._ready[i] = nothing = Handle(_nothing, (), self, self.outside)
                nothing.cancel()
        return taken

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator that a dead process left is not run to its end."""


class VirtualClock:
    """infra.clock.Clock on the loop's time."""

    def __init__(self, loop: VirtualLoop, epoch_ns: int = EPOCH_NS) -> None:
        self._loop = loop
        self._epoch_ns = epoch_ns

    def now_ns(self) -> int:
        return self._epoch_ns + round(self._loop.time() * NS_PER_S)

    def monotonic_s(self) -> float:
        return self._loop.time()


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end on a loop of its own. What still runs then ends as by SIGKILL."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.bury()
        loop.close()


def _registered(loop: Any, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
    process = _current.get() if context is None else context.get(_current)
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    if process is None:
        loop.free.add(task)
        task.add_done_callback(loop.free.discard)
    elif process.state == "dead":
        loop.buried.append(task)
    else:
        process.registered(task)
    return task


def _nothing(*_: Any, context: Context | None = None) -> None:
    """Nothing is stepped any more."""


def _closed(work: Any) -> None:
    while True:
        try:
            work.close()
            return
        except RuntimeError:
            continue  # it awaits in a `finally`: the next one is closed then
