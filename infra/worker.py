"""The loop of a topic handler: read a batch, handle it, park what cannot be handled, then commit.

A handler makes its effects durable before it returns and dedupes them, because a batch may come again. Trouble that may
pass (`transient`, at any of these steps) is waited out with the batch in hand. Anything else that a handler raises is
narrowed down by halving until the one message that cannot be handled is found and parked, so it never stops the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from infra.bus import BusError, Message, Producer, Subscription, next_offsets
from infra.clock import wait as wait_unless
from infra.db import TRANSIENT
from infra.dlq.park import Park, park
from infra.telemetry import MESSAGES

log = structlog.get_logger(__name__)
R = TypeVar("R")

Handler = Callable[[Sequence[Message]], Awaitable[Sequence[Park]]]
RETRY_S_FIRST = 0.1
RETRY_S_MAX = 5.0


class Stopping(Exception):
    """The process stops while a batch waits for trouble to pass; the batch was not done and comes again."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One consumer of one or more topics. `name` is its group, as operators see it.

    With `ahead`, a batch is read while the one before is handled, and committed while the one after is: the handler
    must bear an assignment while it runs, and messages of partitions that went to another member meanwhile.
    """

    name: str
    subscription: Subscription
    producer: Producer
    handler: Handler
    messages_max: int = 500
    wait_s: float = 0.2
    transient: tuple[type[Exception], ...] = (*TRANSIENT, BusError)
    ahead: bool = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: the batch in hand is finished and committed first."""
        try:
            if self.ahead:
                await self._run_ahead(stop)
            while not stop.is_set():
                messages = await self._patiently(self._next, stop)
                if messages:
                    await self._settle(messages, stop)
                    await self._commit(messages, stop)
        except Stopping:
            log.info("stopped_with_a_batch_unfinished", worker=self.name)
        finally:
            await self.subscription.close()

    async def _next(self) -> list[Message]:
        return await self.subscription.batch(self.messages_max, self.wait_s)

    async def _run_ahead(self, stop: asyncio.Event) -> None:
        done: Sequence[Message] = ()
        committing = asyncio.create_task(self._commit(done, stop))
        reading = asyncio.create_task(self._read_after(committing, stop))
        try:
            while not stop.is_set():
                messages = await reading
                committing = asyncio.create_task(self._commit(done, stop))
                reading = asyncio.create_task(self._read_after(committing, stop))
                await self._settle(messages, stop)
                done = messages
            await committing
            await self._commit(done, stop)
        finally:
            reading.cancel()
            await asyncio.gather(committing, reading, return_exceptions=True)

    async def _read_after(self, committing: asyncio.Task[None], stop: asyncio.Event) -> list[Message]:
        await committing
        return await self._patiently(self._next, stop)

    async def _settle(self, messages: Sequence[Message], stop: asyncio.Event) -> None:
        verdicts = await self._handle(messages, stop) if messages else ()
        if verdicts:
            await self._patiently(lambda: park(self.producer, self.name, verdicts), stop)

    async def _commit(self, messages: Sequence[Message], stop: asyncio.Event) -> None:
        if not messages:
            return
        offsets = next_offsets(messages)
        await self._patiently(lambda: self.subscription.commit(offsets), stop)
        for topic, count in Counter(map(attrgetter("topic"), messages)).items():
            MESSAGES.labels(topic).inc(count)

    async def _handle(self, messages: Sequence[Message], stop: asyncio.Event) -> list[Park]:
        try:
            return list(await self._patiently(lambda: self.handler(messages), stop))
        except Stopping:
            raise
        except Exception as error:
            if len(messages) == 1:
                log.exception("message_cannot_be_handled", worker=self.name)
                return [Park(messages[0], "handler_error", f"{type(error).__name__}: {error}")]
            log.warning("batch_failed_halving", worker=self.name, messages=len(messages), error=repr(error))
            middle = len(messages) // 2
            return await self._handle(messages[:middle], stop) + await self._handle(messages[middle:], stop)

    async def _patiently(self, step: Callable[[], Awaitable[R]], stop: asyncio.Event) -> R:
        async def pause(seconds: float) -> None:
            await wait_unless(stop, seconds)
            if stop.is_set():
                raise Stopping

        def note(attempt: int, error: object) -> None:
            log.warning("waiting_for_trouble_to_pass", worker=self.name, attempt=attempt, error=repr(error))

        async def again() -> R:  # a real coroutine function: tenacity does not await what a lambda returns
            return await step()

        try:
            return await step()  # nearly always: the machinery of retries costs more than a small batch
        except self.transient as error:
            note(0, error)
        await pause(RETRY_S_FIRST)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(self.transient),
            wait=wait_random_exponential(RETRY_S_FIRST, RETRY_S_MAX),
            before_sleep=lambda state: note(state.attempt_number, state.outcome and state.outcome.exception()),
            sleep=pause,
            reraise=True,
        )
        return await retrying(again)
