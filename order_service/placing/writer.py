"""Group commit: a batch is what queued while the last one was committed. A lone command is a batch of one and waits for
no timer. The queue is bounded; one command that cannot be handled fails alone, found by halving."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from infra.refusal import Refusal
from order_service.domain import reasons
from order_service.store.refusals import refuse

log = structlog.get_logger(__name__)
C = TypeVar("C")
R = TypeVar("R")


class Writer(Generic[C, R]):
    """`commit` handles a batch and answers each command in order; what it raises concerns the whole batch: a Refusal is
    everybody's answer, anything else is narrowed down."""

    def __init__(self, commit: Callable[[Sequence[C]], Awaitable[Sequence[R]]], queue_max: int, batch_max: int) -> None:
        self._commit = commit
        self._queue_max = queue_max
        self._batch_max = batch_max
        self._queue: deque[tuple[C, asyncio.Future[R]]] = deque()
        self._wake = asyncio.Event()
        self._open = True

    async def submit(self, command: C) -> R:
        """The command's own answer, after its batch was committed. Raises Refusal when too many wait."""
        if len(self._queue) >= self._queue_max or not self._open:
            raise refuse(reasons.BUSY)
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((command, answer))
        self._wake.set()
        return await answer

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what was accepted by then is committed first."""
        stopping = asyncio.ensure_future(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while self._queue or not stop.is_set():
                if self._queue:
                    taken = min(len(self._queue), self._batch_max)
                    await self._settle([self._queue.popleft() for _ in range(taken)])
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._open = False
            stopping.cancel()
            for _, answer in self._queue:
                if not answer.done():
                    answer.set_exception(refuse(reasons.BUSY))

    async def _settle(self, batch: Sequence[tuple[C, asyncio.Future[R]]]) -> None:
        try:
            results = await self._handled([command for command, _ in batch])
        except asyncio.CancelledError:
            for _, answer in batch:
                answer.cancel()
            raise
        for (_, answer), result in zip(batch, results, strict=True):
            if answer.done():
                continue  # the client left; its command was handled all the same
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    async def _handled(self, commands: Sequence[C]) -> list[R | Exception]:
        try:
            return list(await self._commit(commands))
        except Refusal as refusal:
            return [Refusal(refusal.code, refusal.text, refusal.field, refusal.details) for _ in commands]
        except Exception as error:
            if len(commands) == 1:
                log.exception("command_cannot_be_handled")
                return [error]
            log.warning("batch_failed_halving", commands=len(commands), error=repr(error))
            middle = len(commands) // 2
            return await self._handled(commands[:middle]) + await self._handled(commands[middle:])
