"""Letters between processes of one kind, now or never: nothing is kept for who does not read at the moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.clock import wait

log = structlog.get_logger(__name__)

PREFIX = "mail:"
READ_S = 0.5
RETRY_S = 1.0
_TROUBLE = (RedisError, OSError, TimeoutError)

Taken = Callable[[bytes], None]


class MailboxDown(Exception):
    """Nothing can be sent at the moment. Whether the letter was is not known."""


class Mailbox(Protocol):
    async def send(self, address: str, letter: bytes) -> bool:
        """False when nobody reads at that address. Raises MailboxDown."""
        ...

    async def read(self, address: str, taken: Taken, stop: asyncio.Event) -> None:
        """Hand every letter to `taken`, which must not block, until `stop`. What came while the way was down is
        lost."""
        ...

    async def close(self) -> None: ...


class RedisMailbox:
    """On Redis' publish and subscribe: a channel is an address."""

    def __init__(self, url: str, timeout_s: float = 0.5) -> None:
        self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)

    async def send(self, address: str, letter: bytes) -> bool:
        try:
            return bool(await self._redis.publish(PREFIX + address, letter))
        except _TROUBLE as error:
            raise MailboxDown(str(error)) from error

    async def read(self, address: str, taken: Taken, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._read(PREFIX + address, taken, stop)
            except _TROUBLE as error:
                log.warning("mailbox_cannot_be_read", error=str(error))
                await wait(stop, RETRY_S)

    async def _read(self, channel: str, taken: Taken, stop: asyncio.Event) -> None:
        async with contextlib.aclosing(self._redis.pubsub(ignore_subscribe_messages=True)) as subscription:
            await subscription.subscribe(channel)
            while not stop.is_set():
                found = await subscription.get_message(timeout=READ_S)
                if found is not None:
                    taken(found["data"])

    async def close(self) -> None:
        await self._redis.aclose()
