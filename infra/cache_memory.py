"""The twin of the Redis cache."""

from __future__ import annotations

from collections.abc import Mapping

from infra.clock import Clock


class MemoryCache:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}
        self._maps: dict[str, dict[str, bytes]] = {}

    async def get(self, key: str) -> bytes | None:
        value, until_s = self._values.get(key, (None, 0.0))
        return value if self._clock.monotonic_s() < until_s else None

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        if only_new and await self.get(key) is not None:
            return False
        self._values[key] = (value, self._clock.monotonic_s() + ttl_s)
        return True

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)

    async def take(self, key: str) -> bytes | None:
        value = await self.get(key)
        self._values.pop(key, None)
        return value

    async def read_map(self, name: str) -> dict[str, bytes]:
        return dict(self._maps.get(name, {}))

    async def write_map(self, name: str, fields: Mapping[str, bytes]) -> None:
        self._maps.setdefault(name, {}).update(fields)

    async def close(self) -> None:
        return None
