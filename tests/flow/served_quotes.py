"""The api with real quotes behind it, served on loopback twice: with the shorter ways, and the ordinary one only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from api import app as api_app
from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_MS, ManualClock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, MarketStatus, Tick, encode
from infra.process import run_parts, serve_http
from infra.settings import Infra
from infra.stack.ports import free_numbers
from price_service.app import DoorAdapters, Doors, assemble_doors
from price_service.live.venue_memory import MemoryVenueQuotes
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices
from tests.unit.api.doors import settings
from tests.unit.price_service.made import SESSION

WAYS = ("direct", "ordinary")


@dataclass
class Reply:
    """One answer as it came. `headers` in their order, names as sent; Date without its value."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    continued: int = 0
    """How many 1xx came before it."""

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class Client:
    """One connection, one byte string after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        """Each part is a segment of its own."""
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()
            if len(parts) > 1:
                await asyncio.sleep(0.01)

    async def reply(self, method: str = "GET") -> Reply:
        continued = 0
        while (head := await self._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
            continued += 1
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = [
            (name, "" if name == "date" else value) for name, _, value in (line.partition(": ") for line in lines)
        ]
        has_body = method != "HEAD" and " 304 " not in status
        length = int(dict(headers).get("content-length", 0)) if has_body else 0
        return Reply(status, headers, await self._reader.readexactly(length), continued)

    async def ended(self) -> bool:
        """The server closes the connection and says nothing more."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@dataclass
class House:
    """`reached` counts, per way, the requests that came as far as the ASGI application."""

    clock: ManualClock
    bus: MemoryBus
    venue: MemoryVenueQuotes
    doors: Doors
    ports: dict[str, int]
    reached: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))

    async def client(self, way: str) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.ports[way]))

    async def publish(self, *ticks: Tick) -> None:
        """The hub has them, and their quotes are made."""
        producer = self.bus.producer()
        for tick in ticks:
            await producer.send(PRICES, tick.s.encode(), encode(tick))
        table = self.doors.quotes.table
        await until(lambda: all(table.has(tick.s, tick.d, tick.q) for tick in ticks))
        for tick in ticks:
            table.quote(tick.s)

    async def lists(self, *symbols: str, session: int = SESSION) -> None:
        producer = self.bus.producer()
        for symbol in symbols:
            listed = Instrument(symbol, f"{symbol} Inc.", 10_000, 1, session, 99_000_000)
            await producer.send(INSTRUMENTS, symbol.encode(), encode(listed))
        await until(lambda: all(symbol in self.doors.quotes.table.quotes for symbol in symbols))

    async def opens(self, session: int = SESSION) -> None:
        status = MarketStatus("open", session, self.clock.now_ns())
        await self.bus.producer().send(MARKET_STATUS, b"*", encode(status))
        await until(lambda: self.doors.quotes.table.is_open)

    def pass_time(self, seconds: float) -> None:
        """And look who has become stale, as the hub does once a second."""
        self.clock.advance(seconds)
        table = self.doors.quotes.table
        table.age(self.clock.now_ns() // NS_PER_MS)
        for symbol in table.changed():
            table.quote(symbol)


async def until(check: Any, deadline_s: float = 10) -> None:
    async with asyncio.timeout(deadline_s):
        while not check():  # noqa: ASYNC110 - polled: it happens in tasks that the test does not own
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def house(symbols: Sequence[str] = ("AAPL", "SPY"), **changes: Any) -> AsyncIterator[House]:
    """`changes` are settings of the price side."""
    clock, stop = ManualClock(), asyncio.Event()
    bus = MemoryBus(clock)
    venue = MemoryVenueQuotes(bus.producer())
    store = MemoryPrices()
    outside = DoorAdapters(bus=bus, history=store, snapshots=store, cache=MemoryCache(clock), clock=clock, venue=venue)
    doors = assemble_doors(Settings(infra=Infra(), **changes), outside, stop)
    hub: Any = getattr(doors.ready["price_hub"], "__self__")  # noqa: B009
    hub._first_wait_s = 0.02  # a bus in memory has everything at once
    at = House(clock, bus, venue, doors, dict(zip(WAYS, free_numbers(len(WAYS)), strict=True)))
    async with contextlib.AsyncExitStack() as stack:
        parts = dict(doors.parts)
        for way, port in at.ports.items():
            api = settings(direct_routes=way == "direct")
            opener = _already_open(doors)
            service = await stack.enter_async_context(
                api_app.opened(api, {"prices": opener}, stop, ("prices",), clock, MemoryCache(clock))
            )
            parts[way] = _served(at, way, service.app, port, service.protocol)
        running = asyncio.create_task(run_parts(parts, stop))
        await until(lambda: all(is_ready() for is_ready in doors.ready.values()))
        for port in at.ports.values():
            await _listening(port)
        await at.lists(*symbols)
        yield at
        stop.set()
        await running


def _served(at: House, way: str, app: Any, port: int, protocol: Any) -> Any:
    async def counted(scope: Any, receive: Any, send: Any) -> None:
        at.reached[way] += 1
        await app(scope, receive, send)

    async def run(stop: asyncio.Event) -> None:
        await serve_http(counted, "127.0.0.1", port, stop, protocol)  # type: ignore[arg-type]

    return run


def _already_open(doors: Doors) -> api_app.Opener:
    @contextlib.asynccontextmanager
    async def opener(_: asyncio.Event) -> AsyncIterator[api_app.Doors]:
        yield doors

    return opener


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ConnectionError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.005)
