"""The cache: the twin in memory and Redis pass the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from infra.cache import Cache, CacheDown, RedisCache
from infra.cache_memory import MemoryCache
from infra.clock import SystemClock
from infra.settings import Infra


class CacheContract:
    async def test_what_was_put_is_found_and_nothing_else(self, cache: Cache, name: str) -> None:
        assert await cache.get(name) is None
        assert await cache.put(name, b"\0\xff", ttl_s=60)
        assert await cache.get(name) == b"\0\xff"
        assert await cache.put(name, b"newer", ttl_s=60)
        assert await cache.get(name) == b"newer"

    async def test_only_new_leaves_what_is_there(self, cache: Cache, name: str) -> None:
        assert await cache.put(name, b"first", ttl_s=60, only_new=True)
        assert not await cache.put(name, b"second", ttl_s=60, only_new=True)
        assert await cache.get(name) == b"first"

    async def test_what_was_deleted_is_new_again(self, cache: Cache, name: str) -> None:
        await cache.delete(name)
        await cache.put(name, b"first", ttl_s=60)
        await cache.delete(name)
        assert await cache.get(name) is None
        assert await cache.put(name, b"second", ttl_s=60, only_new=True)

    async def test_many_at_once_each_get_their_own_answer(self, cache: Cache, name: str) -> None:
        await asyncio.gather(*(cache.put(f"{name}:{n}", str(n).encode(), ttl_s=60) for n in range(300)))
        found = await asyncio.gather(*(cache.get(f"{name}:{n}") for n in range(301)))
        assert found == [*(str(n).encode() for n in range(300)), None]
        claimed = await asyncio.gather(*(cache.put(name, b"", ttl_s=60, only_new=True) for _ in range(100)))
        assert sum(claimed) == 1

    async def test_one_of_all_who_take_gets_it(self, cache: RedisCache | MemoryCache, name: str) -> None:
        await cache.put(name, b"once", ttl_s=60)
        taken = await asyncio.gather(*(cache.take(name) for _ in range(50)))
        assert sorted(filter(None, taken)) == [b"once"]
        assert await cache.get(name) is None
        assert await cache.take(name) is None

    async def test_what_has_ended_cannot_be_taken(self, cache: RedisCache | MemoryCache, name: str) -> None:
        await cache.put(name, b"short", ttl_s=1)
        async with asyncio.timeout(10):
            while await cache.get(name) is not None:  # noqa: ASYNC110 - time is the store's own
                await asyncio.sleep(0.05)
        assert await cache.take(name) is None

    async def test_a_map_keeps_fields_that_are_not_written_again(self, cache: Cache, name: str) -> None:
        assert await cache.read_map(name) == {}
        await cache.write_map(name, {"q:A": b"1", "o:0": b"5"})
        await cache.write_map(name, {"q:A": b"2", "q:Ü": b"\xff"})
        await cache.write_map(name, {})
        assert await cache.read_map(name) == {"q:A": b"2", "o:0": b"5", "q:Ü": b"\xff"}

    @pytest.fixture
    def name(self) -> str:
        return f"test:{uuid4()}"


class TestMemory(CacheContract):
    @pytest.fixture
    async def cache(self) -> Cache:
        return MemoryCache(SystemClock())


@pytest.mark.real
class TestRedis(CacheContract):
    @pytest.fixture
    async def cache(self, servers: Infra) -> AsyncIterator[Cache]:
        cache = RedisCache(servers.redis_url)
        yield cache
        await cache.close()


async def test_a_server_that_is_away_is_named_so(unused_tcp_port: int) -> None:
    cache = RedisCache(f"redis://127.0.0.1:{unused_tcp_port}/0")
    asked_for = (cache.get("x"), cache.put("x", b"", 1), cache.delete("x"), cache.take("x"), cache.read_map("x"))
    for asked in (*asked_for, cache.write_map("x", {"a": b""})):
        with pytest.raises(CacheDown):
            await asked
    await cache.close()
