"""The doors to prices as clients meet them: the api with its tokens, on a port, over the worker and the twins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from api.app import build
from api.auth.tokens import issue, key_of
from api.wire import WireProtocol
from infra.bus_memory import MemoryBus
from infra.cache import Once
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, SystemClock
from infra.contracts import DEPTH, INSTRUMENTS, MARKET_STATUS, PRICES, Depth, Instrument, MarketStatus, Tick, encode
from infra.mailbox_memory import MemoryMailbox
from infra.principal import Principal, Role
from infra.process import Part, run_parts, serve_http
from infra.settings import Infra
from price_service.app import DoorAdapters, Doors, WorkerAdapters, assemble, assemble_doors
from price_service.live.ticks_since import MemoryTicksSince
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices
from tests.unit.api.doors import SECRET, settings
from tests.unit.price_service.made import SESSION, T0

SYMBOLS = ("AAPL", "IBM", "MSFT")
DEADLINE_S = 15
# The twin of the bus has no connections to make.
FIRST_WAIT_S = 0.05


@dataclass(frozen=True)
class Event:
    """One server-sent event; `data` as JSON."""

    id: str
    event: str
    data: Any


@dataclass(frozen=True)
class Served:
    """One process of the api, with what it shares with others."""

    port: int
    bus: MemoryBus
    store: MemoryPrices
    doors: Doors
    stop: asyncio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, bearer: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {bearer or token()}"} if bearer != "" else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=DEADLINE_S, trust_env=False)

    def publish(self, ticks: Iterable[Tick]) -> None:
        producer = self.bus.producer()
        for tick in ticks:
            producer.send(PRICES, tick.s.encode(), encode(tick))

    def deepen(self, *books: Depth) -> None:
        producer = self.bus.producer()
        for book in books:
            producer.send(DEPTH, book.s.encode(), encode(book))

    def close_session(self) -> None:
        status = MarketStatus("close", SESSION, SESSION * NS_PER_S)
        self.bus.producer().send(MARKET_STATUS, b"*", encode(status))

    @contextlib.asynccontextmanager
    async def socket(self, bearer: str | None = None, query: str = "") -> AsyncIterator[ClientConnection]:
        headers = {"authorization": f"Bearer {bearer or token()}"} if bearer != "" else {}
        async with connect(f"ws://127.0.0.1:{self.port}/ws{query}", additional_headers=headers, proxy=None) as opened:
            yield opened

    async def stored(self, count: int) -> None:
        await until(lambda: len(self.store.ticks) >= count)


def token(account: int = 1, ttl_s: int = 600, role: Role = "investor") -> str:
    asker = Principal(f"{role}-{account}", role, account if role == "investor" else None)
    return issue(key_of(SECRET), asker, SystemClock().now_ns() // NS_PER_S, ttl_s, "token-1")


@contextlib.asynccontextmanager
async def served(
    port: int,
    bus: MemoryBus | None = None,
    mailbox: MemoryMailbox | None = None,
    protocol: type[asyncio.Protocol] | None = WireProtocol,
    **changes: Any,
) -> AsyncIterator[Served]:
    """With `bus` a second process beside the one that it came from: it has no worker of its own. `protocol` None: a
    server whose connections cannot be taken over."""
    clock, stop, store = SystemClock(), asyncio.Event(), MemoryPrices()
    cache, price_settings = MemoryCache(clock), Settings(infra=Infra(), **changes)
    parts: dict[str, Part] = {}
    if bus is None:
        bus = MemoryBus(clock)
        worker = assemble(price_settings, WorkerAdapters(bus=bus, producer=bus.producer(), store=store, cache=cache))
        parts.update(worker.parts)
        listed(bus)
    outside = DoorAdapters(
        bus=bus,
        history=store,
        snapshots=store,
        cache=cache,
        clock=clock,
        ticks=MemoryTicksSince(store),
        mailbox=mailbox or MemoryMailbox(),
    )
    doors = assemble_doors(price_settings, outside, stop)
    doors.streams._hub._first_wait_s = FIRST_WAIT_S
    async with on_port(port, doors, parts, cache, stop, protocol):
        yield Served(port, bus, store, doors, stop)


@contextlib.asynccontextmanager
async def on_port(
    port: int,
    doors: Doors,
    parts: Mapping[str, Part],
    kept: Once,
    stop: asyncio.Event,
    protocol: type[asyncio.Protocol] | None = WireProtocol,
) -> AsyncIterator[None]:
    """The api over these doors, and other parts beside it; ready inside the block."""
    app = build(settings(), {"prices": doors}, ("prices",), SystemClock(), kept)

    async def http(stopped: asyncio.Event) -> None:
        await serve_http(app, "127.0.0.1", port, stopped, protocol)

    running = asyncio.create_task(run_parts({"http": http, **parts, **doors.parts}, stop))
    try:
        await until(lambda: all(ready() for ready in doors.ready.values()))
        yield
    finally:
        stop.set()
        await running


def listed(bus: MemoryBus) -> None:
    producer = bus.producer()
    for symbol in SYMBOLS:
        producer.send(INSTRUMENTS, symbol.encode(), encode(Instrument(symbol, symbol, 10_000, 1, SESSION, 50_000_000)))
    producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", SESSION, SESSION * NS_PER_S)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the condition is another task's progress
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def streamed(
    client: httpx.AsyncClient,
    path: str = "/stockPrices/stream",
    headers: dict[str, str] | None = None,
    last_event_id: str | None = None,
    **query: Any,
) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a stream; comments and `retry:` are left out. Waiting for one has a deadline."""
    sent = dict(headers or {}) if last_event_id is None else {"last-event-id": last_event_id}
    async with client.stream("GET", path, params=query, headers=sent) as answer:
        if answer.status_code != 200:
            raise AssertionError((await answer.aread()).decode())
        async with contextlib.aclosing(events(answer.aiter_lines())) as found:
            yield found


async def events(lines: AsyncIterator[str]) -> AsyncGenerator[Event, None]:
    fields: dict[str, str] = {}
    while True:
        try:
            async with asyncio.timeout(DEADLINE_S):
                line = await anext(lines)
        except StopAsyncIteration:
            return
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


async def taken(found: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(found) for _ in range(count)]


def depth(
    n: int,
    bids: tuple[tuple[int, int], ...] = ((99_990_000, 200),),
    asks: tuple[tuple[int, int], ...] = ((100_010_000, 300),),
    symbol: str = "AAPL",
    session: int = SESSION,
) -> Depth:
    return Depth(symbol, session, n, T0, bids, asks)


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def heard(socket: ClientConnection) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        return json.loads(await socket.recv())


async def closed(socket: ClientConnection) -> int | None:
    """The code of the server's close frame; what it says before is passed over."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await heard(socket)
    return socket.close_code


async def frozen(house: Served, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has sent its request and reads nothing, with little room on its side."""
    unread = socket.socket()
    unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    unread.setblocking(False)
    await asyncio.get_running_loop().sock_connect(unread, ("127.0.0.1", house.port))
    reader, writer = await asyncio.open_connection(sock=unread, limit=4096)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n\r\n"
    writer.write(head.encode())
    await until(lambda: len(house.doors.following.open) > 0)
    return reader, writer


async def lines_of(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of an answer in chunks (RFC 9112 §7.1)."""
    await reader.readuntil(b"\r\n\r\n")
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield line.decode().rstrip("\r")
