"""Ranges, answers and routes of the price service, on twins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, ManualClock
from infra.contracts import Instrument
from infra.refusal import Refusal
from infra.settings import Infra
from price_service.app import DoorAdapters, assemble_doors
from price_service.domain.points import Point
from price_service.history.answers import history_json
from price_service.history.ranges import INTERVALS, TIMERANGES, choose
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices
from price_service.store.records import Move, StoreAway
from tests.unit.price_service.made import SESSION, batch, trade


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


NOW = ns("2024-03-31T15:30:20")


@pytest.mark.parametrize(
    ("timerange", "start", "interval"),
    [
        ("1d", "2024-03-30T15:30:00", "1m"),
        ("1w", "2024-03-24T15:30:00", "5m"),
        ("1m", "2024-02-29T15:00:00", "1h"),
        ("3m", "2023-12-31T15:00:00", "1h"),
        ("6m", "2023-09-30T04:00:00", "1d"),
        ("1y", "2023-03-31T04:00:00", "1d"),
        ("ytd", "2024-01-01T05:00:00", "1d"),
        ("max", "1970-01-01T00:00:00", "1d"),
    ],
)
def test_ranges_go_back_to_whole_buckets(timerange: str, start: str, interval: str) -> None:
    chosen = choose(timerange, None, NOW)
    assert chosen.interval == interval
    assert chosen.window.from_ns == ns(start)
    assert chosen.window.to_ns == NOW + 1


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("timerange", TIMERANGES)
def test_every_range_goes_with_every_interval_that_is_shorter(timerange: str, interval: str) -> None:
    if (timerange, interval) == ("1d", "1d"):
        with pytest.raises(Refusal, match="interval_too_long"):
            choose(timerange, interval, NOW)
        return
    window = choose(timerange, interval, NOW).window
    assert 0 <= window.from_ns < window.to_ns
    assert window.bucket_ns == INTERVALS[interval] * NS_PER_S


def test_prices_of_points_are_exact_and_unknown_ones_null() -> None:
    points = [Point(NOW, 1, 580_250_000, 10_000, 5_000_000, 3, 2, 10), Point(NOW, None, None, None, None, 0, 0, 0)]
    found = json.loads(history_json("A", choose("1d", None, NOW), points, False), parse_float=str)
    assert found["points"][0] == {
        "time": "2024-03-31T15:30:20Z",
        "open": "0.000001",
        "high": "580.25",
        "low": "0.01",
        "close": "5.00",
        "volume": 3,
        "trades": 2,
        "vwap": "0.000003",
    }
    assert found["points"][1]["vwap"] is None


class Doors:
    """The routes on a hub that has seen nothing yet, or one that has."""

    def __init__(self, store: MemoryPrices, ready: bool) -> None:
        clock = ManualClock(NOW)
        outside = DoorAdapters(
            bus=MemoryBus(clock), history=store, snapshots=store, cache=MemoryCache(clock), clock=clock
        )
        self.doors = assemble_doors(Settings(infra=Infra()), outside, asyncio.Event())
        hub = self.doors.live._hub
        hub._caught_up = hub._listed = ready
        if ready:
            for symbol in ("AAPL", "SPY"):
                hub._table.listed(Instrument(symbol, f"{symbol} Inc.", 10_000, 1, SESSION))
            hub._flush()
        self.app = FastAPI()
        for router in self.doors.routers(lambda: None):
            self.app.include_router(router)

        @self.app.exception_handler(Refusal)
        async def refused(_: Request, error: Refusal) -> JSONResponse:
            return JSONResponse({"code": error.code, "field": error.field, "details": error.details}, 422)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://api")


@pytest.fixture
async def store() -> MemoryPrices:
    prices = MemoryPrices()
    await prices.adopt([0])
    ticks = [trade(q, q * 1_000_000, at_ns=NOW - 3600 * NS_PER_S + q * 60 * NS_PER_S) for q in range(1, 31)]
    await prices.save(batch(ticks, [Move(0, 0, 30)]))
    await prices.keep([Instrument(s, f"{s} Inc.", 10_000, 1, SESSION) for s in ("AAPL", "SPY")])
    return prices


@pytest.fixture
async def client(store: MemoryPrices) -> AsyncIterator[httpx.AsyncClient]:
    async with Doors(store, ready=True).client() as client:
        yield client


async def test_history_in_points(client: httpx.AsyncClient) -> None:
    found = (await client.get("/stockPrices?symbol=aapl&timerange=1d&interval=15m")).json()
    assert (found["symbol"], found["timerange"], found["interval"]) == ("AAPL", "1d", "15m")
    assert [(p["time"], p["open"], p["close"], p["volume"]) for p in found["points"]] == [
        ("2024-03-31T14:30:00Z", 1.0, 14.0, 1400),
        ("2024-03-31T14:45:00Z", 15.0, 29.0, 1500),
        ("2024-03-31T15:00:00Z", 30.0, 30.0, 100),
    ]
    assert not found["truncated"]


async def test_a_long_history_keeps_its_newest_points(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("price_service.history.routes.POINTS_MAX", 4)
    found = (await client.get("/stockPrices?symbol=AAPL&timerange=1d")).json()
    assert [p["close"] for p in found["points"]] == [27.0, 28.0, 29.0, 30.0]
    assert found["truncated"]


async def test_a_listed_symbol_without_trades_has_an_empty_history(client: httpx.AsyncClient) -> None:
    assert (await client.get("/stockPrices?symbol=SPY&timerange=max")).json()["points"] == []


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("?symbol=NOPE", "unknown_symbol", "symbol"),
        ("?symbols=AAPL,NOPE", "unknown_symbol", "symbols"),
        ("?symbol=", "invalid_symbol", "symbol"),
        ("?symbol=" + "A" * 10_000, "invalid_symbol", "symbol"),
        ("?symbol=%00", "invalid_symbol", "symbol"),
        ("?symbols=", "symbols_missing", "symbols"),
        ("?symbols=" + ",".join(["A"] * 501), "too_many_symbols", "symbols"),
        ("?symbol=AAPL&symbols=SPY", "symbol_or_symbols", "symbols"),
        ("?timerange=1d", "symbol_missing", "symbol"),
        ("?symbols=AAPL&timerange=1d", "symbol_missing", "symbol"),
        ("?symbol=AAPL&interval=1m", "timerange_missing", "timerange"),
        ("?symbol=AAPL&timerange=", "unknown_timerange", "timerange"),
        ("?symbol=AAPL&timerange=1D", "unknown_timerange", "timerange"),
        ("?symbol=AAPL&timerange=" + "9" * 10_000, "unknown_timerange", "timerange"),
        ("?symbol=AAPL&timerange=1d&interval=2m", "unknown_interval", "interval"),
        ("?symbol=AAPL&timerange=1d&interval=1d", "interval_too_long", "interval"),
        ("?symbol=NOPE&timerange=1d", "unknown_symbol", "symbol"),
        ("/search", "search_text_missing", "q"),
        ("/search?q=%20", "search_text_missing", "q"),
        ("/search?q=" + "x" * 65, "search_text_too_long", "q"),
        ("/stream", "symbols_missing", "symbols"),
        ("/stream?symbols=NOPE", "unknown_symbol", "symbols"),
        ("/stream?symbols=" + "A," * 20_000, "too_many_symbols", "symbols"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_its_field(
    client: httpx.AsyncClient, query: str, code: str, field: str
) -> None:
    answer = (await client.get("/stockPrices" + query)).json()
    assert (answer["code"], answer["field"]) == (code, field)
    assert answer["details"]["fix"]
    assert len(json.dumps(answer)) < 600


async def test_search_takes_any_text(client: httpx.AsyncClient) -> None:
    assert (await client.get("/stockPrices/search?q=inc")).json()["results"] == [
        {"symbol": "AAPL", "name": "AAPL Inc."},
        {"symbol": "SPY", "name": "SPY Inc."},
    ]
    for text in ("%00", "%25", "%F0%9F%92%A9", "'%22;--"):
        assert (await client.get(f"/stockPrices/search?q={text}")).json()["results"] == []


async def test_before_the_hub_is_ready_what_it_does_not_know_is_not_called_unknown(store: MemoryPrices) -> None:
    async with Doors(store, ready=False).client() as client:
        for path in ("/stockPrices", "/stockPrices?symbol=AAPL", "/stockPrices/stream?symbols=AAPL"):
            answer = (await client.get(path)).json()
            assert answer["code"] == "prices_not_ready"
            assert answer["details"]["retry_after_s"] == 1


async def test_a_store_that_is_away_is_said_so() -> None:
    class Away(MemoryPrices):
        async def points(self, *_: Any) -> Any:
            raise StoreAway("down")

        async def search(self, *_: Any) -> Any:
            raise StoreAway("down")

    async with Doors(Away(), ready=True).client() as client:
        for path in ("/stockPrices?symbol=AAPL&timerange=1d", "/stockPrices/search?q=a"):
            assert (await client.get(path)).json()["code"] == "price_store_unavailable"
        assert (await client.get("/stockPrices?symbol=AAPL")).status_code == 200
