"""The price worker with all its parts on a real store: what is traded now joins what was made up, at every length."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, SystemClock
from infra.contracts import INSTRUMENTS, PRICES, Instrument, Trade, encode
from infra.db import engine
from infra.process import run_parts
from infra.settings import Infra
from price_service.app import WorkerAdapters, assemble, upkeep
from price_service.ingest.ticks_pg import PgTicks
from price_service.rollups.retention_pg import PgRetention
from price_service.rollups.rollups_pg import PgRollups
from price_service.seed.seed_pg import PgSeed
from price_service.settings import Settings
from tests.flow.walking import eventually

pytestmark = pytest.mark.real

TRADES = 50
COUNTS = """
    SELECT (SELECT count(*) FROM ticks), (SELECT count(*) FROM seeded), (SELECT count(*) FROM bars_dirty),
        (SELECT coalesce(sum(trades), 0) FROM bars_1h WHERE bucket >= (SELECT max(until) FROM seeded))
"""
# What is stored and is not the sum of its minutes, or the other way round; of days, those that have minutes.
DIFFERENT = """
    WITH summed AS (
        SELECT symbol, {bucket} AS bucket,
            (array_agg(open_micros ORDER BY bucket) FILTER (WHERE open_micros IS NOT NULL))[1] AS open,
            max(high_micros) AS high, min(low_micros) AS low,
            (array_agg(close_micros ORDER BY bucket DESC) FILTER (WHERE close_micros IS NOT NULL))[1] AS close,
            sum(volume) AS volume, sum(trades) AS trades, sum(notional_micros) AS notional
        FROM bars_1m GROUP BY 1, 2
    ), stored AS (
        SELECT symbol, bucket, open_micros, high_micros, low_micros, close_micros, volume, trades, notional_micros
        FROM {table} WHERE bucket >= (SELECT min(bucket) FROM summed)
    )
    (TABLE summed EXCEPT TABLE stored) UNION ALL (TABLE stored EXCEPT TABLE summed)
"""
HOURS = DIFFERENT.format(bucket="date_trunc('hour', bucket)", table="bars_1h")
DAYS = DIFFERENT.format(bucket="date_trunc('day', bucket, 'America/New_York')", table="bars_1d")


async def asked(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(statement.encode())).fetchall()


async def test_minutes_hours_and_days_agree_while_everything_runs(prices_db: str) -> None:
    clock = SystemClock()
    settings = Settings(infra=Infra(), prices_seed_history=True, prices_rollup_ms=20)
    bus, source, stop = MemoryBus(clock), engine(prices_db, "test"), asyncio.Event()
    outside = WorkerAdapters(
        bus=bus,
        producer=bus.producer(),
        store=PgTicks(source),
        cache=MemoryCache(clock),
        rollups=PgRollups(source),
        upkeep=upkeep(settings, prices_db, PgRetention(source), PgSeed(source)),
    )
    running = asyncio.create_task(run_parts(assemble(settings, outside).parts, stop))
    session = clock.now_ns() // NS_PER_S
    await outside.producer.send(INSTRUMENTS, b"AAPL", encode(Instrument("AAPL", "Apple", 10_000, 1, session, 10**8)))
    for q in range(1, TRADES + 1):
        tick = Trade("AAPL", session, q, clock.now_ns(), 10**8 + q * 10_000, 100, 1, "Q")
        await outside.producer.send(PRICES, b"AAPL", encode(tick))
        await asyncio.sleep(0)

    async def all_there() -> bool:
        return await asked(prices_db, COUNTS) == [(TRADES, 1, 0, TRADES)]

    try:
        await eventually("ticks, history and roll-ups are stored", all_there, 30, 0.05)
        assert await asked(prices_db, HOURS) == []
        assert await asked(prices_db, DAYS) == []
        ((days,),) = await asked(prices_db, "SELECT count(*) FROM bars_1d")
        assert days >= 504
    finally:
        stop.set()
        bus.wake()
        await running
        await source.dispose()
