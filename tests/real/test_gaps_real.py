"""Ticks that the feed leaves out, on Kafka and PostgreSQL: asked for until the store is whole and its bars right."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from exchange_gateway.feed.feed import Feed
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.feed.market_http import HttpMarketData
from exchange_gateway.feed.on_request import MarketData, OnRequest
from exchange_gateway.feed.routes import routes
from exchange_gateway.simulator.chaos import Rule
from exchange_gateway.stream import Follower
from infra.bus_kafka import KafkaBus
from infra.cache_memory import MemoryCache
from infra.clock import SystemClock
from infra.contracts import PRICES, encode
from infra.db import MemoryCheckpoints, driver, engine
from infra.process import run_parts
from infra.settings import Infra
from price_service.app import WorkerAdapters, assemble
from price_service.gaps import closer
from price_service.gaps.resend_http import HttpResender
from price_service.ingest.ticks_pg import PgTicks
from price_service.settings import Settings
from tests.flow.test_gaps_twin import bars_of, truth_of
from tests.flow.venue_running import KEY, running

ROWS = 6000
DEADLINE_S = 60.0
IDENTITIES = "SELECT symbol, session, q FROM ticks ORDER BY 1, 2, 3"
BARS = """
    SELECT symbol, (extract(epoch FROM bucket) * 1000000000)::bigint, open_micros, high_micros, low_micros,
        close_micros, volume, trades, notional_micros::bigint FROM bars_1m ORDER BY 1, 2
"""


async def rows(source: AsyncEngine, statement: str) -> list[tuple[object, ...]]:
    async with driver(source) as connection:
        return list(await (await connection.execute(statement.encode())).fetchall())


@contextlib.asynccontextmanager
async def both_sides(servers: Infra, source: AsyncEngine, venue_url: str, market: MarketData) -> AsyncIterator[None]:
    """The gateway's feed and its port for questions, and the worker."""
    bus, clock, stop = KafkaBus(servers.bootstrap, "test"), SystemClock(), asyncio.Event()
    # Other tests have written to the topic: this store begins where they ended.
    async with driver(source) as connection:
        for (_, partition), end in (await bus.ends([PRICES])).items():
            await connection.execute(
                "INSERT INTO partition_offsets (topic, partition, next_offset) VALUES (%s, %s, %s)",
                (PRICES, partition, end),
            )
        await connection.commit()
    producer = bus.producer(5)
    app = FastAPI()
    app.include_router(routes(OnRequest(market, producer, 4, 5.0)))
    resender = HttpResender("http://gateway", httpx.ASGITransport(app))
    key = KEY["authorization"].removeprefix("Bearer ")
    feed = Follower("feed", Feed(WsFeedSource(venue_url, key), producer), MemoryCheckpoints(), clock, Random(1))
    store = PgTicks(source)
    outside = WorkerAdapters(
        bus=bus, producer=producer, store=store, cache=MemoryCache(clock), resender=resender, clock=clock
    )
    worker = assemble(Settings(infra=servers, gaps_wait_ms=200, gaps_requests_max=50), outside)
    task = asyncio.create_task(run_parts({"feed": feed.run, **worker.parts}, stop))
    try:
        yield
    finally:
        stop.set()
        await task
        await resender.close()
        await producer.close()


@pytest.mark.real
@pytest.mark.timeout(180)
async def test_what_the_feed_left_out_is_in_the_tables_in_the_end(
    servers: Infra, prices_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closer, "LOOK_EVERY_S", 0.1)
    scenario, source = tmp_path / "scenario.json", engine(prices_db, "test", connections_max=4)
    rule = Rule(kind="missing_tick", every=20, from_event=200, to_event=ROWS // 2)
    scenario.write_bytes(encode({"rules": [rule]}))
    told = {"tape_speed": "max", "tape_loops": "1", "tape_synthetic_rows": str(ROWS), "scenario": str(scenario)}
    async with running(tmp_path, **told) as exchange, httpx.AsyncHTTPTransport(trust_env=False) as transport:
        url, key = f"http://127.0.0.1:{exchange.port}", KEY["authorization"].removeprefix("Bearer ")
        market = HttpMarketData(transport, url, key, 5.0)
        async with both_sides(servers, source, url, market), asyncio.timeout(DEADLINE_S):
            while len(await rows(source, "SELECT FROM ticks")) < ROWS:  # noqa: ASYNC110 - the worker stores
                await asyncio.sleep(0.1)
        truth = await truth_of(market)
    assert await rows(source, IDENTITIES) == sorted((tick.s, tick.d, tick.q) for tick in truth)
    bars = [
        (b.symbol, b.bucket_ns, b.open, b.high, b.low, b.close, b.volume, b.trades, b.notional_micros)
        for b in bars_of(truth).values()
    ]
    assert await rows(source, BARS) == sorted(bars, key=lambda bar: bar[:2])
    await source.dispose()
