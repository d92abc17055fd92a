"""The order service's doors on twins, behind a small application: the principal comes from a header."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import msgspec
from fastapi import FastAPI, Header, Request, Response

from infra.bus import Bus
from infra.bus_memory import MemoryBus
from infra.cache import Cache
from infra.cache_memory import MemoryCache
from infra.clock import Ids, ManualClock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, MarketStatus, Quote, encode
from infra.principal import Principal
from infra.process import run_parts
from infra.refusal import Refusal
from infra.settings import Infra
from order_service import app
from order_service.settings import OrderSettings
from order_service.store.memory import MemoryOrders
from order_service.store.memory_books import MemoryBooks

STATUS = {"order_not_found": 404, "order_final": 409, "cancel_pending": 409, "replace_pending": 409}
# Not the guard that makes two equal orders of one moment a slip: these tests' clock stands.
DEFAULTS = {"order_duplicate_ms": 0, "order_per_second_max": 10_000}
GOOD = {"orderType": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 10, "amount": 580.25}


@dataclass(frozen=True, slots=True)
class House:
    store: MemoryOrders
    bus: Bus
    cache: Cache
    doors: app.OrderDoors
    web: FastAPI
    settings: OrderSettings
    clock: ManualClock
    ids: Ids

    def client(self, account: int | None = 1, role: str = "investor") -> httpx.AsyncClient:
        headers = {"x-role": role} | ({"x-account": str(account)} if account else {})
        transport = httpx.ASGITransport(self.web)
        return httpx.AsyncClient(transport=transport, base_url="http://house", headers=headers)


async def principal(x_role: Annotated[str, Header()], x_account: Annotated[int | None, Header()] = None) -> Principal:
    return Principal(f"{x_role}-{x_account}", x_role, x_account)  # type: ignore[arg-type]


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    body = {"code": error.code, "detail": error.text, "field": error.field, "details": error.details}
    return Response(msgspec.json.encode(body), STATUS.get(error.code, 422))


@asynccontextmanager
async def house(
    listed: tuple[str, ...] = ("AAPL", "IBM"), cache: Cache | None = None, **settings: Any
) -> AsyncIterator[House]:
    """An open market where every listed symbol is quoted at 580.20 to 580.30."""
    clock = ManualClock()
    bus, store, ids, stop = MemoryBus(clock), MemoryOrders(), Ids(clock, 1), asyncio.Event()
    cache = cache or MemoryCache(clock)
    chosen = OrderSettings(infra=Infra(), **{**DEFAULTS, **settings})
    outside = app.DoorAdapters(bus=bus, store=store, books=MemoryBooks(store, clock), cache=cache, clock=clock, ids=ids)
    doors = app.doors(chosen, outside, stop)
    web = FastAPI()
    for router in doors.routers(principal):
        web.include_router(router)
    web.add_exception_handler(Refusal, refused)
    producer = bus.producer()
    await producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", 1, clock.now_ns())))
    for symbol in listed:
        await producer.send(INSTRUMENTS, symbol.encode(), encode(Instrument(symbol, symbol, 10_000, 1, 1)))
    running = asyncio.create_task(run_parts(doors.parts, stop))
    try:
        while not all(ready() for name, ready in doors.ready.items() if listed or name != "market"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for symbol in listed:
            quote = Quote(symbol, 1, 1, clock.now_ns(), 580_200_000, 100, 580_300_000, 100)
            await producer.send(PRICES, symbol.encode(), encode(quote))
        while not all(doors.market.view.quotes.of(symbol) for symbol in listed):  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield House(store, bus, cache, doors, web, chosen, clock, ids)
    finally:
        stop.set()
        bus.wake()
        await running
        await doors.close()
