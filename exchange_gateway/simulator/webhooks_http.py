"""Sends each report as a signed webhook (Standard Webhooks 1.0), in order per order, until it is answered with a 2xx.

Memory is bounded and matching never waits: what finds the queue full, what is refused for too long, and what was on its
way when the process died is left to the drop copy, where the receiver finds every report by number.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import deque
from collections.abc import Sequence

import httpx
import structlog
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from exchange_gateway.simulator.messages import Numbered
from infra.clock import NS_PER_S, Clock

log = structlog.get_logger(__name__)

FIRST_PAUSE_S, PAUSE_MAX_S = 0.1, 15.0
STOP_S = 1.0  # for what is on its way at the end
TIMEOUTS = httpx.Timeout(5.0).as_dict()  # seconds, for each phase


class SecretError(ValueError):
    """The webhook secret is not `whsec_` + base64."""


def secret_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise SecretError("XGW_WEBHOOK_SECRET is not whsec_ followed by base64") from error


def signature(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def webhook_transport(connections_max: int) -> httpx.AsyncHTTPTransport:
    """The bare transport: redirects, cookies and the rest of a client cost as much CPU again."""
    limits = httpx.Limits(max_connections=connections_max, max_keepalive_connections=connections_max)
    return httpx.AsyncHTTPTransport(trust_env=False, limits=limits)


class _NotTaken(Exception):
    """The receiver does not want this report; others may be welcome."""


class _Down(Exception):
    """The receiver is not there, or answers 429 or 5xx: it would not take any other report either."""


class Webhooks:
    """Reports that wait, in one queue per order; every order with a queue has one task that works it off."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        url: str,
        secret: str,
        clock: Clock,
        concurrency: int,
        queue_max: int,
        give_up_s: float,
    ) -> None:
        self._transport = transport
        self._url = httpx.URL(url)
        self._key = secret_key(secret)
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._reachable = asyncio.Event()
        self._reachable.set()
        self._queue_max = queue_max
        self._give_up_s = give_up_s
        self._queues: dict[str, deque[Numbered]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._posting: set[asyncio.Timeout] = set()
        self._waiting = 0
        self.left_out = 0

    def __call__(self, reports: Sequence[Numbered]) -> None:
        for numbered in reports:
            if self._waiting >= self._queue_max:
                self._leave_out(numbered, "queue_full")
                continue
            self._waiting += 1
            order = numbered.report.exchange_order_id or numbered.report.exec_id
            if order in self._queues:
                self._queues[order].append(numbered)
                continue
            self._queues[order] = deque([numbered])
            task = asyncio.create_task(self._work_off(order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then what is on its way may finish for a moment and the rest is left to the drop copy."""
        await stop.wait()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def disconnect(self) -> None:
        """Cut what is on its way; whether it arrived is not known, so it goes again."""
        for scope in self._posting:
            scope.reschedule(asyncio.get_running_loop().time())

    async def _work_off(self, order: str) -> None:
        queue = self._queues[order]
        try:
            while queue:
                numbered = queue[0]
                await self._deliver(numbered)
                queue.popleft()
                self._waiting -= 1
        finally:
            self._waiting -= len(queue)
            del self._queues[order]

    async def _deliver(self, numbered: Numbered) -> None:
        """Send until it is taken. While the receiver is down, the one delivery that found out asks for all others."""
        asks = False
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((_NotTaken, _Down)),
            wait=wait_exponential_jitter(multiplier=FIRST_PAUSE_S, max=PAUSE_MAX_S, jitter=FIRST_PAUSE_S),
            stop=stop_after_delay(self._give_up_s),
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._turn(asks)
                    try:
                        await self._post(numbered)
                    except _Down:
                        asks = asks or self._reachable.is_set()
                        self._reachable.clear()
                        raise
                    except _NotTaken:
                        if asks:  # it is there again, only this report it does not want
                            asks = False
                            self._reachable.set()
                        raise
                    finally:
                        self._slots.release()
        except RetryError:
            self._leave_out(numbered, "never_taken")
        finally:
            if asks:
                self._reachable.set()

    async def _turn(self, asks: bool) -> None:
        """Take a slot, while the receiver is thought to be there or to find out whether it is."""
        while True:
            if not asks:
                await self._reachable.wait()
            await self._slots.acquire()
            if asks or self._reachable.is_set():
                return
            self._slots.release()

    async def _post(self, numbered: Numbered) -> None:
        timestamp = self._clock.now_ns() // NS_PER_S
        headers = {
            "content-type": "application/json",
            "webhook-id": numbered.report.exec_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, numbered.report.exec_id, timestamp, numbered.body),
        }
        request = httpx.Request(
            "POST", self._url, content=numbered.body, headers=headers, extensions={"timeout": TIMEOUTS}
        )
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._posting.add(scope)
                answer = await self._transport.handle_async_request(request)
                await answer.aread()
                await answer.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            raise _Down(str(error)) from error
        finally:
            self._posting.discard(scope)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            raise _Down(answer.status_code)
        if not answer.is_success:
            raise _NotTaken(answer.status_code)

    def _leave_out(self, numbered: Numbered, why: str) -> None:
        self.left_out += 1
        if self.left_out & (self.left_out - 1) == 0:  # 1, 2, 4, 8, ...: a long outage does not fill the log
            log.warning("webhook_left_out", why=why, exec_id=numbered.report.exec_id, left_out=self.left_out)
