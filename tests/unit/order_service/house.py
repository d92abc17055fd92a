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
from infra.clock import Ids, ManualClock
from infra.contracts import INSTRUMENTS, Instrument, encode
from infra.principal import Principal
from infra.process import run_parts
from infra.refusal import Refusal
from infra.settings import Infra
from order_service import app
from order_service.settings import OrderSettings
from order_service.store.memory import MemoryOrders

STATUS = {"order_not_found": 404, "order_final": 409, "cancel_pending": 409}
GOOD = {"orderType": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 10, "amount": 580.25}


@dataclass(frozen=True, slots=True)
class House:
    store: MemoryOrders
    bus: Bus
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
async def house(listed: tuple[str, ...] = ("AAPL", "IBM"), **settings: Any) -> AsyncIterator[House]:
    clock = ManualClock()
    bus, store, ids, stop = MemoryBus(clock), MemoryOrders(), Ids(clock, 1), asyncio.Event()
    chosen = OrderSettings(infra=Infra(), **settings)
    doors = app.doors(chosen, bus, store, clock, ids, stop)
    web = FastAPI()
    for router in doors.routers(principal):
        web.include_router(router)
    web.add_exception_handler(Refusal, refused)
    producer = bus.producer()
    for symbol in listed:
        await producer.send(INSTRUMENTS, symbol.encode(), encode(Instrument(symbol, symbol, 10_000, 1, 1)))
    running = asyncio.create_task(run_parts(doors.parts, stop))
    try:
        while not all(ready() for name, ready in doors.ready.items() if listed or name != "instruments"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield House(store, bus, doors, web, chosen, clock, ids)
    finally:
        stop.set()
        bus.wake()
        await running
