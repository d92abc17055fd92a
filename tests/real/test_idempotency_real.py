"""One key, one order: two desks on PostgreSQL and Redis, as in two processes, while Redis is flushed and stopped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from infra.cache import RedisCache
from infra.clock import Ids, SystemClock
from infra.process import background
from infra.refusal import Refusal
from infra.stack.stack import Stack
from order_service.placing.desk import Desk, Placed
from order_service.placing.idempotency import TIMEOUT_S, Keys
from order_service.store.books_pg import PgBooks
from order_service.store.funding import DEMO_FUNDS, fund
from order_service.store.orders_pg import PgOrders, add_accounts, opened
from order_service.store.ports import Filter
from tests.flow.walking import eventually
from tests.unit.order_service.makers import BACK_OFFICE, INVESTOR, RULES, market

pytestmark = pytest.mark.real

GOOD: dict[str, Any] = {"order_type": "buy", "type_": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "GTC"}
AMOUNT = Decimal("580.25")
CLIENTS = 64


@asynccontextmanager
async def desk_on(dsn: str, redis_url: str) -> AsyncIterator[tuple[Desk, PgOrders]]:
    clock = SystemClock()
    async with opened(dsn, "test") as store:
        cache = RedisCache(redis_url, TIMEOUT_S)
        keys = Keys(cache, clock)
        desk = Desk(store, market, keys, RULES, clock, Ids(clock), 1_000, 250)
        try:
            async with background(desk.run):
                yield desk, store
                await keys.close()
        finally:
            await cache.close()


async def posted(desks: Sequence[Desk], key: str) -> Counter[str]:
    """What 64 simultaneous clients with one key are told; each 201 must be the same answer."""
    bodies: set[bytes] = set()
    told: Counter[str] = Counter()

    async def post(desk: Desk) -> None:
        try:
            placed: Placed = await desk.place(INVESTOR, **GOOD, amount=AMOUNT, key=key)
        except Refusal as refusal:
            told[refusal.code] += 1
        else:
            bodies.add(placed.body)
            told["replayed" if placed.replayed else "placed"] += 1

    await asyncio.gather(*(post(desks[number % len(desks)]) for number in range(CLIENTS)))
    assert len(bodies) <= 1
    return told


async def test_one_key_is_one_order_whatever_happens_to_redis(server_stack: Stack, orders_db: str) -> None:
    await add_accounts(orders_db, [(1, "Account 1")])
    url = server_stack.settings.infra.redis_url
    async with AsyncExitStack() as stack:
        (one, store), (two, _) = [await stack.enter_async_context(desk_on(orders_db, url)) for _ in range(2)]
        await fund(PgBooks(store, SystemClock()), BACK_OFFICE, 1, DEMO_FUNDS)
        desks = (one, two)

        told = await posted(desks, "cold")
        assert set(told) <= {"placed", "replayed", "request_in_flight"}
        assert told["placed"] == 1

        first = await one.place(INVESTOR, **GOOD, amount=AMOUNT, key="flushed")
        await one.cancel(INVESTOR, first.order_id)  # the order has changed since, its first answer has not
        async with Redis.from_url(url) as redis:
            await redis.flushdb()
        for desk in desks:
            again = await desk.place(INVESTOR, **GOOD, amount=AMOUNT, key="flushed")
            assert (again.body, again.replayed) == (first.body, True)

        with pytest.raises(Refusal) as refused:
            await two.place(INVESTOR, **{**GOOD, "quantity": 11}, amount=AMOUNT, key="flushed")
        assert (refused.value.code, refused.value.details["fields"]) == ("idempotency_key_reused", "quantity")

        stopping = asyncio.create_task(asyncio.to_thread(server_stack.stop_processes, ["redis"]))
        try:
            rounds = 0
            while not stopping.done():
                assert (await posted(desks, f"stopping-{rounds}"))["placed"] == 1
                rounds += 1
            await stopping
            told = await posted(desks, "stopped")
            assert (told["placed"], told["request_in_flight"]) == (1, 0)
            again = await two.place(INVESTOR, **GOOD, amount=AMOUNT, key="cold")
            assert again.replayed
        finally:
            await stopping
            await asyncio.to_thread(server_stack.start, ["redis"])

        async def remembered() -> bool:
            key = f"back-{asyncio.get_running_loop().time()}"
            await one.place(INVESTOR, **GOOD, amount=AMOUNT, key=key)
            async with Redis.from_url(url) as redis:
                return bool(await redis.exists(f"idempotency:1:{key}"))

        await eventually("Redis is used again", remembered, 30, 0.2)
        orders = await store.page(INVESTOR, Filter(limit=500))
        assert len({order.idempotency_key for order in orders}) == len(orders)
        assert {"cold", "flushed", "stopped", *(f"stopping-{n}" for n in range(rounds))} <= {
            order.idempotency_key for order in orders
        }
