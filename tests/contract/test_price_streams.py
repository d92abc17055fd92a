"""A price stream on the connection itself and through sse-starlette: the same answer, event by event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api import app as api_app
from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from infra.contracts import INSTRUMENTS, PRICES, Instrument, encode
from infra.process import run_parts, serve_http
from infra.settings import Infra
from infra.sse import EXPIRED, FAREWELL, HELLO
from infra.stack.ports import free_numbers
from infra.telemetry import STREAMS
from price_service.app import DoorAdapters, Doors, assemble_doors
from price_service.live.sse import Stream
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices
from tests.unit.api.doors import settings, token
from tests.unit.price_service.made import SESSION, trade

WAYS = ("direct", "sse_starlette")
# One has a name so long that its few events fill a socket.
NAMES = {"AAPL": "Apple", "MSFT": "Microsoft", "SPY": "SPDR", "LONG": "L" * 100_000}
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def until(check: Callable[[], bool], deadline_s: float = 10) -> None:
    async with asyncio.timeout(deadline_s):
        while not check():  # noqa: ASYNC110 - polled: it happens in tasks that the test does not own
            await asyncio.sleep(0.002)


class Reading:
    """The events of one stream, as text between two blank lines."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._data = b""
        self._parts = answer.aiter_bytes()

    async def event(self) -> bytes:
        async with asyncio.timeout(10):
            while b"\n\n" not in self._data:
                self._data += await anext(self._parts)
        event, _, self._data = self._data.partition(b"\n\n")
        return event + b"\n\n"

    async def events(self, count: int) -> list[bytes]:
        return [await self.event() for _ in range(count)]

    async def rest(self) -> bytes:
        """Until the answer ends as HTTP wants it; httpx raises where it is cut off."""
        async with asyncio.timeout(10):
            rest = self._data + b"".join([part async for part in self._parts])
        self._data = b""
        return rest


@dataclass
class House:
    way: str
    port: int
    clock: ManualClock
    bus: MemoryBus
    doors: Doors
    stop: asyncio.Event
    running: asyncio.Task[None]
    numbers: dict[str, int]

    def client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token(ttl_s=3600)}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False, timeout=10)

    @contextlib.asynccontextmanager
    async def stream(self, symbols: str = "AAPL,SPY", **headers: str) -> AsyncIterator[Reading]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            self.client() as client,
            client.stream("GET", f"/stockPrices/stream?symbols={symbols}", headers=named) as answer,
        ):
            assert answer.status_code == 200
            yield Reading(answer)

    def trade(self, symbol: str, micros: int) -> None:
        q = self.numbers[symbol] = self.numbers.get(symbol, 0) + 1
        self.bus.producer().send(PRICES, symbol.encode(), encode(trade(q, micros, symbol=symbol)))

    def open_stream(self) -> Stream:
        (only,) = self.doors.streams._open
        return only


@pytest_asyncio.fixture(params=WAYS, scope="module", loop_scope="module")
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with opened(request.param) as made:
        yield made


@contextlib.asynccontextmanager
async def opened(way: str) -> AsyncIterator[House]:
    (port,) = free_numbers(1)
    clock, stop = ManualClock(), asyncio.Event()
    bus, store = MemoryBus(clock), MemoryPrices()
    outside = DoorAdapters(bus=bus, history=store, snapshots=store, cache=MemoryCache(clock), clock=clock)
    doors = assemble_doors(Settings(infra=Infra()), outside, stop)

    @contextlib.asynccontextmanager
    async def already(_: asyncio.Event) -> AsyncIterator[Doors]:
        yield doors

    async with api_app.opened(settings(), {"prices": already}, stop, ("prices",), clock, MemoryCache(clock)) as api:
        protocol = api.protocol if way == "direct" else None

        async def http(stopped: asyncio.Event) -> None:
            await serve_http(api.app, "127.0.0.1", port, stopped, protocol)

        running = asyncio.create_task(run_parts({"http": http, **doors.parts}, stop))
        made = House(way, port, clock, bus, doors, stop, running, {})
        for symbol, name in NAMES.items():
            listed = Instrument(symbol, name, 10_000, 1, SESSION, 99_000_000)
            bus.producer().send(INSTRUMENTS, symbol.encode(), encode(listed))
        await until(
            lambda: all(ready() for ready in doors.ready.values()) and NAMES.keys() <= doors.quotes.table.quotes.keys()
        )
        yield made
        stop.set()
        await running


def quote_of(event: bytes) -> dict[str, Any]:
    return dict(json.loads(event.split(b"data: ")[1]))


class TestPriceStreams:
    async def test_the_head_is_right_for_clients_and_proxies(self, house: House) -> None:
        async with house.stream() as reading:
            headers = reading.answer.headers
            assert headers["content-type"] == "text/event-stream; charset=utf-8"
            assert headers["cache-control"] == "no-store"
            assert headers["x-accel-buffering"] == "no"
            assert headers["transfer-encoding"] == "chunked"
            assert headers["x-request-id"]
            assert "content-length" not in headers

    async def test_the_current_quotes_come_first_and_then_what_changes(self, house: House) -> None:
        house.trade("AAPL", 5_000_000)
        await until(lambda: b'"price":5.00' in house.doors.quotes.table.quotes["AAPL"])
        async with house.stream("SPY,AAPL") as reading:
            hello, named, *quotes = await reading.events(4)
            assert hello == HELLO
            assert named.startswith(b'event: stream\ndata: {"id":"')
            assert quote_of(named)["symbols"] == ["SPY", "AAPL"]
            assert [quote_of(quote)["symbol"] for quote in quotes] == ["AAPL", "SPY"]
            assert re.match(rb"id: \d+\ndata: \{", quotes[0])
            house.trade("MSFT", 1_000_000)
            house.trade("SPY", 7_000_000)
            assert quote_of(await reading.event())["price"] == 7.0

    async def test_a_resume_brings_what_has_changed_since(self, house: House) -> None:
        house.trade("AAPL", 5_000_000)
        async with house.stream("AAPL,SPY") as reading:
            events = await reading.events(4)
        seen = max(int(found[1]) for event in events if (found := re.match(rb"id: (\d+)", event)))
        house.clock.advance(5)
        house.trade("SPY", 6_000_000)
        await until(lambda: b'"price":6.00' in house.doors.quotes.table.quotes["SPY"])
        async with house.stream("AAPL,SPY", last_event_id=str(seen + 3_000)) as reading:
            _, _, event = await reading.events(3)
            assert quote_of(event)["price"] == 6.0
            house.trade("AAPL", 8_000_000)
            assert quote_of(await reading.event())["price"] == 8.0

    @pytest.mark.parametrize("last_event_id", ["x", "-1", "1.5", "9" * 19, "AAPL:1:2"])
    async def test_an_id_that_is_none_is_refused(self, house: House, last_event_id: str) -> None:
        async with house.client() as client:
            answer = await client.get("/stockPrices/stream?symbols=AAPL", headers={"last-event-id": last_event_id})
        assert (answer.status_code, answer.json()["code"]) == (422, "last_event_id_invalid")
        assert not house.doors.streams._open

    @pytest.mark.parametrize(
        ("method", "query", "status", "code"),
        [
            ("GET", "", 422, "symbols_missing"),
            ("GET", "?symbols=", 422, "symbols_missing"),
            ("GET", "?symbols=NONE", 404, "unknown_symbol"),
            ("GET", "?symbols=" + ",".join(["A"] * 501), 422, "too_many_symbols"),
            ("GET", "?symbols=a%20b", 422, "invalid_symbol"),
            ("POST", "?symbols=AAPL", 405, "method_not_allowed"),
        ],
    )
    async def test_what_is_no_stream_is_refused(
        self, house: House, method: str, query: str, status: int, code: str
    ) -> None:
        async with house.client() as client:
            answer = await client.request(method, "/stockPrices/stream" + query)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            head = await client.head("/stockPrices/stream?symbols=AAPL")
        assert (head.status_code, head.content) == (405, b"")
        assert not house.doors.streams._open

    async def test_a_client_that_goes_is_forgotten(self, house: House) -> None:
        before = STREAMS.labels("prices")._value.get()
        async with house.stream() as reading:
            await reading.events(4)
            assert len(house.doors.streams.followers) == 1
            assert STREAMS.labels("prices")._value.get() == before + 1
        await until(lambda: len(house.doors.streams.followers) == 0)
        assert not house.doors.streams._open
        assert STREAMS.labels("prices")._value.get() == before

    async def test_other_symbols_without_a_new_connection(self, house: House) -> None:
        async with house.stream("AAPL") as reading:
            await reading.events(3)
            house.open_stream().change(["AAPL", "MSFT"])
            named, quote = await reading.events(2)
            assert quote_of(named)["symbols"] == ["AAPL", "MSFT"]
            assert quote_of(quote)["symbol"] == "MSFT"

    async def test_a_stream_that_is_ended_says_why_and_ends_as_http_wants_it(self, house: House) -> None:
        async with house.stream("AAPL") as reading:
            await reading.events(3)
            house.open_stream().end(EXPIRED)
            assert await reading.rest() == EXPIRED
        assert not house.doors.streams._open

    async def test_a_client_that_reads_nothing_holds_nobody_up_and_is_current_once_it_reads(self, house: House) -> None:
        skips = house.doors.streams.followers.counts.skips
        with socket.socket() as frozen:
            frozen.connect(("127.0.0.1", house.port))
            frozen.sendall(
                b"GET /stockPrices/stream?symbols=LONG HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer %b\r\n\r\n" % token(ttl_s=3600).encode()
            )
            await until(lambda: len(house.doors.streams.followers) == 1)
            async with house.stream("LONG") as reading:
                price = 0
                while house.doors.streams.followers.counts.skips == skips:
                    price += 10_000
                    house.trade("LONG", price)
                    while b'"price":%d.%02d,' % divmod(price // 10_000, 100) not in await reading.event():
                        pass
            reader, writer = await asyncio.open_connection(sock=frozen.dup())
            async with asyncio.timeout(10):
                data = b""
                while b'"price":%d.%02d,' % divmod(price // 10_000, 100) not in data:
                    part = await reader.read(1 << 20)
                    assert part
                    data = data[-100:] + part
            writer.close()
        await until(lambda: len(house.doors.streams.followers) == 0)


async def test_both_ways_say_the_same_and_tell_the_end_of_the_process() -> None:
    heads, bodies = [], []
    for way in WAYS:
        async with opened(way) as house, house.stream("AAPL,SPY") as reading:
            events = await reading.events(4)
            for price in (5_000_000, 6_000_000):
                house.trade("SPY", price)
                events.append(await reading.event())
            house.stop.set()
            events.append(await reading.rest())
            async with asyncio.timeout(5):
                await house.running
            bodies.append([re.sub(rb'"id":"[0-9a-f]+"', b'"id":""', event) for event in events])
            heads.append({k: v for k, v in reading.answer.headers.items() if k not in ("date", "x-request-id")})
    assert bodies[0][-1] == FAREWELL
    assert bodies[0] == bodies[1]
    assert heads[0] == heads[1]


async def test_what_a_client_of_a_taken_connection_still_says_is_not_read() -> None:
    """Neither a request that came together with the first, nor anything later."""
    async with opened("direct") as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        head = b"Host: x\r\nAuthorization: Bearer %b\r\n\r\n" % token(ttl_s=3600).encode()
        writer.write(b"GET /stockPrices/stream?symbols=SPY HTTP/1.1\r\n" + head + b"GET /healthz HTTP/1.1\r\n" + head)
        await until(lambda: len(house.doors.streams.followers) == 1)
        writer.write(b"junk" * 1_000)
        house.trade("SPY", 7_000_000)
        async with asyncio.timeout(10):
            data = await reader.readuntil(b'"price":7.00,')
        assert data.count(b"HTTP/1.1 200 OK") == 1
        assert b'"alive"' not in data
        writer.close()
        await until(lambda: len(house.doors.streams.followers) == 0)


async def test_a_process_with_a_client_that_takes_nothing_ends_in_time() -> None:
    async with opened("direct") as house:
        with socket.socket() as frozen:
            frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            frozen.connect(("127.0.0.1", house.port))
            frozen.sendall(
                b"GET /stockPrices/stream?symbols=LONG HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer %b\r\n\r\n" % token(ttl_s=3600).encode()
            )
            await until(lambda: len(house.doors.streams.followers) == 1 and house.open_stream().unsent() > 0)
            house.stop.set()
            async with asyncio.timeout(4):
                await house.running
