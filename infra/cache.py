"""The cache: fast, shared, and allowed to be empty or away. Nothing is true only because the cache says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

Command = tuple[str | bytes | int, ...]
_TROUBLE = (RedisError, OSError, TimeoutError)


class CacheDown(Exception):
    """The cache does not answer. The caller goes on without it, slower."""


class Cache(Protocol):
    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        """Store for `ttl_s` seconds; with `only_new`, False when the key is there already."""
        ...

    async def delete(self, key: str) -> None:
        """Forget a key, whether it is there or not."""
        ...

    async def read_map(self, name: str) -> dict[str, bytes]:
        """All fields of a map; empty when there is none."""
        ...

    async def write_map(self, name: str, fields: Mapping[str, bytes]) -> None:
        """Set these fields, all or none of them."""
        ...

    async def close(self) -> None: ...


class Once(Protocol):
    """The same store, for what may be used a single time."""

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool: ...

    async def take(self, key: str) -> bytes | None:
        """Read and forget in one step: of all who take a key at once, one gets its value."""
        ...


class RedisCache:
    """On Redis. Every trouble of the server or the wire is CacheDown, within `timeout_s`.

    Commands about single keys that come while others are on the wire wait for them and then go together: under load a
    round trip, and most of the client's work, is shared by many.
    """

    def __init__(self, url: str, timeout_s: float = 0.5) -> None:
        self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._asked("GET", key))

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        return bool(await self._asked("SET", key, value, "EX", ttl_s, *(("NX",) if only_new else ())))

    async def delete(self, key: str) -> None:
        await self._asked("DEL", key)

    async def take(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._asked("GETDEL", key))

    async def read_map(self, name: str) -> dict[str, bytes]:
        with _down():
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(name))
        return {field.decode(): value for field, value in found.items()}

    async def write_map(self, name: str, fields: Mapping[str, bytes]) -> None:
        if fields:
            with _down():
                await self._redis.hset(name, mapping=dict(fields.items()))

    async def close(self) -> None:
        if self._sending is not None:
            await self._sending
        await self._redis.aclose()

    async def _asked(self, *command: str | bytes | int) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                answers = await self._answers([command for command, _ in batch])
                for (_, waiting), answer in zip(batch, answers, strict=True):
                    if waiting.done():
                        continue  # who asked did not wait for it
                    if isinstance(answer, Exception):
                        waiting.set_exception(CacheDown(str(answer)))
                    else:
                        waiting.set_result(answer)
        finally:
            left, self._waiting, self._sending = [*batch, *self._waiting], [], None
            for _, waiting in left:
                if not waiting.done():
                    waiting.set_exception(CacheDown("nothing is sent any more"))

    async def _answers(self, commands: Sequence[Command]) -> Sequence[Any]:
        """One per command: what Redis said, or what went wrong."""
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        try:
            return await pipe.execute(raise_on_error=False)
        except _TROUBLE as error:
            return [error] * len(commands)


@contextlib.contextmanager
def _down() -> Iterator[None]:
    try:
        yield
    except _TROUBLE as error:
        raise CacheDown(str(error)) from error
