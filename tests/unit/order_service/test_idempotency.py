"""The keys in the cache: what is claimed, finished and released, and what a cache costs that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.cache import CacheDown
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from order_service.placing.idempotency import IN_FLIGHT_S, Keys
from tests.unit.order_service.house import GOOD, House, house

A, B = "a" * 64, "b" * 64


class Flaky(MemoryCache):
    """Down or silent when told so; counts what it is asked."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.trouble: str | None = None
        self.asked = 0

    async def get(self, key: str) -> bytes | None:
        await self._met()
        return await super().get(key)

    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        await self._met()
        return await super().put(key, value, ttl_s, only_new)

    async def delete(self, key: str) -> None:
        await self._met()
        await super().delete(key)

    async def _met(self) -> None:
        self.asked += 1
        if self.trouble == "down":
            raise CacheDown("away")
        if self.trouble == "silent":
            await asyncio.Event().wait()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> Flaky:
    return Flaky(clock)


async def test_a_key_is_claimed_once_and_its_answer_is_found_afterwards(cache: Flaky, clock: ManualClock) -> None:
    keys, other = Keys(cache, clock), Keys(cache, clock)
    claim = await keys.claim(1, "k", A)
    assert claim.state == "ours"
    for hashed in (A, B):
        assert (await other.claim(1, "k", hashed)).state == "in_flight"
    assert (await other.claim(2, "k", A)).state == "ours"
    keys.finished(claim, b'{"id":"7"}')
    await keys.close()
    found = await other.claim(1, "k", A)
    assert (found.state, found.body) == ("finished", b'{"id":"7"}')
    assert (await other.claim(1, "k", B)).state == "unknown"


async def test_a_refused_request_leaves_nothing(cache: Flaky, clock: ManualClock) -> None:
    keys = Keys(cache, clock)
    await keys.released(await keys.claim(1, "k", A))
    assert (await keys.claim(1, "k", A)).state == "ours"
    await keys.released(await keys.claim(1, "k", A))  # in flight: another's marker stays
    assert (await keys.claim(1, "k", A)).state == "in_flight"


async def test_the_marker_of_a_process_that_died_passes(cache: Flaky, clock: ManualClock) -> None:
    keys = Keys(cache, clock)
    await keys.claim(1, "k", A)
    clock.advance(IN_FLIGHT_S)
    assert (await keys.claim(1, "k", A)).state == "ours"


@pytest.mark.parametrize("trouble", ["down", "silent"])
async def test_a_cache_that_is_away_is_asked_once_a_pause(cache: Flaky, clock: ManualClock, trouble: str) -> None:
    keys = Keys(cache, clock, timeout_s=0.01, pause_s=1.0)
    cache.trouble = trouble
    assert (await keys.claim(1, "k", A)).state == "unknown"
    assert cache.asked == 1
    for _ in range(50):
        claim = await keys.claim(1, "k", A)
        keys.finished(claim, b"{}")
        await keys.released(claim)
    await keys.close()
    assert cache.asked == 1
    clock.advance(1)
    assert {claim.state for claim in await asyncio.gather(*(keys.claim(1, "k", A) for _ in range(9)))} == {"unknown"}
    assert cache.asked == 2
    cache.trouble = None
    clock.advance(1)
    assert (await keys.claim(1, "k", A)).state == "ours"
    assert (await keys.claim(1, "j", A)).state == "ours"


@pytest.fixture
async def home(cache: Flaky) -> AsyncIterator[House]:
    async with house(cache=cache) as opened:
        yield opened


KEY = {"Idempotency-Key": "k"}


async def test_a_cache_that_is_away_or_flushed_costs_no_correctness(home: House, cache: Flaky) -> None:
    async with home.client() as client:
        cache.trouble = "down"
        answers = await asyncio.gather(*(client.post("/orders", json=GOOD, headers=KEY) for _ in range(64)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotent-replayed" in answer.headers for answer in answers) == 63
        other = await client.post("/orders", json={**GOOD, "quantity": 11, "symbol": "IBM"}, headers=KEY)
        assert (other.json()["code"], other.json()["details"]["fields"]) == (
            "idempotency_key_reused",
            "symbol, quantity",
        )
        assert len((await client.get("/orders")).json()["orders"]) == 1


async def test_the_first_answer_comes_again_byte_for_byte_from_the_database(home: House, cache: Flaky) -> None:
    async with home.client() as client:
        first = await client.post("/orders", json=GOOD, headers=KEY)
        await client.delete(first.headers["location"])
        cache.trouble = "down"
        again = await client.post("/orders", json=GOOD, headers=KEY)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]


async def test_a_finished_request_is_answered_without_the_database(home: House) -> None:
    async with home.client() as client:
        first = await client.post("/orders", json=GOOD, headers=KEY)
        stored = len(home.store.outbox)
        home.store.orders.clear()
        again = await client.post("/orders", json={**GOOD, "amount": "580.250"}, headers=KEY)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert len(home.store.outbox) == stored


@pytest.mark.parametrize("trouble", [None, "down"])
async def test_a_refused_request_is_decided_anew(home: House, cache: Flaky, trouble: Any) -> None:
    cache.trouble = trouble
    async with home.client() as client:
        for _ in range(2):
            answer = await client.post("/orders", json={**GOOD, "quantity": 10**6}, headers=KEY)
            assert answer.json()["code"] == "notional_above_max"
        taken = await client.post("/orders", json=GOOD, headers=KEY)
        assert (taken.status_code, "idempotent-replayed" in taken.headers) == (201, False)
