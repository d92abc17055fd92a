"""The price side as a whole on its twins: a tape on the bus is stored once, served, charted and streamed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, SystemClock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, MarketStatus, Quote, Tick, Trade, encode
from infra.principal import Principal
from infra.process import background, run_parts, serve_http
from infra.refusal import Refusal
from infra.settings import Infra
from price_service.app import DoorAdapters, Doors, WorkerAdapters, assemble, assemble_doors
from price_service.domain.conditions import sets_prices
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices

TICKS = 20_000
SESSION = 1_700_000_000
SYNTHETIC_SYMBOLS = ("AAPL", "AIG", "BAC", "GOOG", "IBM", "SPY")
SETTINGS = Settings(infra=Infra())


def recorded() -> Path | None:
    """The real tape, where this machine has it; it may not be shipped."""
    folder = os.environ.get("MARKETDATA_DIR") or Path(__file__).parents[3] / "shared" / "marketdata"
    path = Path(folder) / "tape" / "ticks_2013-10-08.parquet"
    return path if path.exists() else None


def tape(now_ns: int) -> list[Tick]:
    """Real ticks around the open, else synthetic ones; their time is moved so that the last is now."""
    source = recorded()
    ticks = real_ticks(source) if source else synthetic_ticks()
    shift = now_ns - ticks[-1].t
    return [msgspec.structs.replace(tick, t=tick.t + shift) for tick in ticks]


def real_ticks(path: Path) -> list[Tick]:
    table = pq.read_table(path)
    rows = table.slice(table.num_rows // 4, TICKS).to_pylist()
    numbers: dict[str, int] = {}
    ticks: list[Tick] = []
    for row in rows:
        symbol = row["symbol"]
        q = numbers[symbol] = numbers.get(symbol, 0) + 1
        if row["kind"] == "T":
            price, exch = row["price_e4"] * 100, row["exch"] or ""
            ticks.append(Trade(symbol, SESSION, q, row["ts_event"], price, row["size"], row["cond"] or 0, exch))
        else:
            bid, ask = (row["bid_e4"] or 0) * 100, (row["ask_e4"] or 0) * 100
            bid_size, ask_size = row["bid_sz"] or 0, row["ask_sz"] or 0
            ticks.append(Quote(symbol, SESSION, q, row["ts_event"], bid, bid_size, ask, ask_size))
    return ticks


def synthetic_ticks() -> list[Tick]:
    chance, ticks = random.Random(7), list[Tick]()
    numbers = dict.fromkeys(SYNTHETIC_SYMBOLS, 0)
    for i in range(TICKS):
        symbol = chance.choice(SYNTHETIC_SYMBOLS)
        q = numbers[symbol] = numbers[symbol] + 1
        price, at = 100_000_000 + chance.randint(-99, 99) * 10_000, i * NS_PER_S // 50
        if chance.random() < 0.3:
            ticks.append(
                Trade(symbol, SESSION, q, at, price, chance.randint(1, 500), chance.choice([1, 1, 0x2000]), "Q")
            )
        else:
            ticks.append(Quote(symbol, SESSION, q, at, price - 10_000, 100, price + 10_000, 200))
    return ticks


class System:
    """Worker and doors in one loop, with a server in front."""

    def __init__(self, url: str, bus: MemoryBus, store: MemoryPrices, cache: MemoryCache, doors: Doors) -> None:
        self.url = url
        self.bus = bus
        self.cache = cache
        self.store = store
        self.doors = doors

    def publish(self, ticks: list[Tick]) -> None:
        producer = self.bus.producer()
        for tick in ticks:
            producer.send(PRICES, tick.s.encode(), encode(tick))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False)


@pytest.fixture
async def system(unused_tcp_port: int) -> AsyncIterator[System]:
    clock, stop = SystemClock(), asyncio.Event()
    bus, store, cache = MemoryBus(clock), MemoryPrices(), MemoryCache(clock)
    worker = assemble(SETTINGS, WorkerAdapters(bus=bus, producer=bus.producer(), store=store, cache=cache))
    outside = DoorAdapters(bus=bus, history=store, snapshots=store, cache=cache, clock=clock)
    doors = assemble_doors(SETTINGS, outside, stop)
    app = FastAPI()
    for router in doors.routers(lambda: Principal("test", "operator")):
        app.include_router(router)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"code": error.code, "field": error.field}, 422)

    async def http(stopped: asyncio.Event) -> None:
        await serve_http(app, "127.0.0.1", unused_tcp_port, stopped)

    running = asyncio.create_task(run_parts({"http": http, **worker.parts, **doors.parts}, stop))
    yield System(f"http://127.0.0.1:{unused_tcp_port}", bus, store, cache, doors)
    stop.set()
    await running


async def until(check: Any, what: str, deadline_s: float = 20) -> None:
    """Polls: what is waited for happens in tasks that the test does not own."""
    async with asyncio.timeout(deadline_s):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert what


def expected_last(ticks: list[Tick]) -> dict[str, tuple[Decimal | None, Decimal | None, int]]:
    """Per symbol: last price by the condition rule, last bid, volume."""
    last: dict[str, tuple[Decimal | None, Decimal | None, int]] = {}
    for tick in ticks:
        price, bid, volume = last.get(tick.s, (None, None, 0))
        if isinstance(tick, Trade):
            price = Decimal(tick.p) / 1_000_000 if sets_prices(tick.c) else price
            volume += tick.z
        else:
            bid = Decimal(tick.b) / 1_000_000 or None
        last[tick.s] = (price, bid, volume)
    return last


def seen(quote: dict[str, Any]) -> tuple[Decimal | None, Decimal | None, int]:
    return (quote["price"], quote["bid"], quote["volume"])


async def watch(system: System, symbols: list[str], quotes: dict[str, Any], started: asyncio.Event) -> None:
    async with (
        system.client() as client,
        client.stream("GET", "/stockPrices/stream", params={"symbols": ",".join(symbols)}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith('data: {"symbol":'):
                quote = json.loads(line[5:], parse_float=Decimal)
                quotes[quote["symbol"]] = quote
                started.set()


async def test_a_tape_is_stored_once_served_charted_and_streamed(system: System) -> None:
    ticks = tape(SystemClock().now_ns())
    symbols, expected = sorted({tick.s for tick in ticks}), expected_last(ticks)
    producer = system.bus.producer()
    for symbol in symbols:
        listed = Instrument(symbol, f"{symbol} Incorporated", 10_000, 1, SESSION, 50_000_000)
        producer.send(INSTRUMENTS, symbol.encode(), encode(listed))
    producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", SESSION, ticks[0].t)))

    async def ready() -> bool:
        return all(is_ready() for is_ready in system.doors.ready.values())

    await until(ready, "the doors are ready")
    streamed: dict[str, Any] = {}
    started = asyncio.Event()
    watching = asyncio.create_task(watch(system, symbols, streamed, started))
    await asyncio.wait_for(started.wait(), 5)  # the snapshot came: listed symbols without a price yet
    for at in range(0, TICKS, 2_000):
        part = ticks[at : at + 2_000]
        system.publish(part + part[-50:])
        await asyncio.sleep(0)

    async def current() -> bool:
        return {s: seen(q) for s, q in streamed.items()} == expected

    await until(current, "the stream has the final prices")
    watching.cancel()

    async def stored() -> bool:
        return len(system.store.ticks) >= TICKS

    await until(stored, "every tick is stored")
    assert len(system.store.ticks) == len({(r.tick.s, r.tick.q) for r in system.store.ticks}) == TICKS
    async with system.client() as client:
        await check_doors(client, ticks, expected)

    async def gone() -> bool:
        return len(system.doors.streams.followers) == 0

    await until(gone, "the stream's follower has gone")


async def check_doors(client: httpx.AsyncClient, ticks: list[Tick], expected: dict[str, Any]) -> None:
    everything = exact(await client.get("/stockPrices"))["quotes"]
    assert {q["symbol"]: seen(q) for q in everything} == expected
    assert [q["symbol"] for q in everything] == sorted(expected)
    two = exact(await client.get("/stockPrices?symbols=SPY,AAPL"))["quotes"]
    assert [q["symbol"] for q in two] == ["SPY", "AAPL"]
    one = exact(await client.get("/stockPrices?symbol=spy"))
    assert one == two[0]
    assert one["name"] == "SPY Incorporated"
    assert one["change"] == one["price"] - 50
    history = exact(await client.get("/stockPrices?symbol=SPY&timerange=1d"))
    trades = [t for t in ticks if isinstance(t, Trade) and t.s == "SPY"]
    assert history["interval"] == "1m"
    assert sum(p["volume"] for p in history["points"]) == sum(t.z for t in trades) == one["volume"]
    assert sum(p["trades"] for p in history["points"]) == len(trades)
    priced = [p for p in history["points"] if p["open"] is not None]
    assert [priced[0]["open"], priced[-1]["close"]] == [one["open"], one["price"]]
    assert max(p["high"] for p in priced) == one["high"]
    found = exact(await client.get("/stockPrices/search?q=incorp"))["results"]
    traded = Counter[str]()
    for tick in ticks:
        traded[tick.s] += tick.p * tick.z if isinstance(tick, Trade) else 0
    assert [f["symbol"] for f in found] == [symbol for symbol, _ in traded.most_common()]
    for path, code in {
        "/stockPrices?symbol=NOPE": "unknown_symbol",
        "/stockPrices/stream?symbols=AAPL,NOPE": "unknown_symbol",
        "/stockPrices?symbol=NOPE&timerange=1d": "unknown_symbol",
        "/stockPrices?symbol=AAPL&timerange=2d": "unknown_timerange",
        f"/stockPrices?symbols={'A,' * 20_000}": "too_many_symbols",
    }.items():
        assert (await client.get(path)).json()["code"] == code


def exact(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


async def test_a_hub_that_starts_late_has_the_same_quotes(system: System) -> None:
    """From the cache, from the store, and from the bus alone."""
    ticks = tape(SystemClock().now_ns())[:5_000]
    system.publish(ticks)

    async def stored() -> bool:
        return len(system.store.ticks) >= len(ticks)

    await until(stored, "every tick is stored")
    clock, stop = SystemClock(), asyncio.Event()

    async def mirrored() -> bool:
        return len(await system.cache.read_map("quotes")) > len({tick.s for tick in ticks})

    await until(mirrored, "the cache has the quotes")
    nothing = MemoryPrices()
    for cache, store in ((system.cache, nothing), (MemoryCache(clock), system.store), (MemoryCache(clock), nothing)):
        outside = DoorAdapters(bus=system.bus, history=store, snapshots=store, cache=cache, clock=clock)
        late = assemble_doors(SETTINGS, outside, stop)
        async with contextlib.AsyncExitStack() as stack:
            for part in late.parts.values():
                await stack.enter_async_context(background(part))

            async def ready(doors: Doors = late) -> bool:
                return all(is_ready() for is_ready in doors.ready.values())

            await until(ready, "the late doors are ready")
            for symbol, values in expected_last(ticks).items():
                body = bytes(late.quotes.latest.of(symbol).body)
                assert seen(json.loads(body, parse_float=Decimal)) == values
