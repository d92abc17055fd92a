"""The cache: fast, shared, and allowed to be empty or away. Nothing is true only because the cache says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError


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


class RedisCache:
    """On Redis. Every trouble of the server or the wire is CacheDown, within `timeout_s`."""

    def __init__(self, url: str, timeout_s: float = 0.5) -> None:
        self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)

    async def get(self, key: str) -> bytes | None:
        with _down():
            return cast("bytes | None", await self._redis.get(key))

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        with _down():
            return bool(await self._redis.set(key, value, ex=ttl_s, nx=only_new))

    async def delete(self, key: str) -> None:
        with _down():
            await self._redis.delete(key)

    async def read_map(self, name: str) -> dict[str, bytes]:
        with _down():
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(name))
        return {field.decode(): value for field, value in found.items()}

    async def write_map(self, name: str, fields: Mapping[str, bytes]) -> None:
        if fields:
            with _down():
                await self._redis.hset(name, mapping=dict(fields.items()))

    async def close(self) -> None:
        await self._redis.aclose()


@contextlib.contextmanager
def _down() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise CacheDown(str(error)) from error
