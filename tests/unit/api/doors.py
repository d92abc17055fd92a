"""Small doors for tests of the api: routes that show what a service's routes may do, without any service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import httpx
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from sse_starlette import EventSourceResponse

from api import app as api_app
from api.app import Opener
from api.auth.bearer import PrincipalDependency
from api.auth.tokens import issue, key_of
from api.roles import DOORS, Door
from api.settings import ApiSettings
from infra.clock import NS_PER_S, ManualClock
from infra.direct import Handlers
from infra.principal import Principal, Role
from infra.process import Part, Ready
from infra.refusal import Refusal
from infra.settings import Infra, Secrets
from infra.sse import frame, stream

SECRET = "s" * 32
OTHER_SECRET = "o" * 32


class Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    symbol: str
    quantity: int


class OrderDoors:
    """Routes of every kind: a body, a refusal with numbers, a crash, a stream."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self.is_open = True
        self.wishes: list[Wish] = []
        self.direct: Handlers = {}

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"stream": self._run}

    @property
    def ready(self) -> Mapping[str, Ready]:
        return {"store": lambda: self.is_open}

    async def _run(self, stop: asyncio.Event) -> None:
        await stop.wait()

    def routers(self, principal: PrincipalDependency) -> list[APIRouter]:
        routes = APIRouter(prefix="/orders", tags=["orders"])

        @routes.post("", status_code=201)
        async def place(wish: Wish, asking: Principal = Depends(principal)) -> dict[str, Any]:
            self.wishes.append(wish)
            return {"id": str(len(self.wishes)), "accountId": asking.account_id, **wish.model_dump()}

        @routes.get("/stream")
        async def updates(_: Principal = Depends(principal)) -> EventSourceResponse:
            return stream(self._frames(), self._stop, lambda: None)

        @routes.get("/{order_id}")
        async def one(order_id: int, _: Principal = Depends(principal)) -> dict[str, int]:
            if order_id == 500:
                raise RuntimeError("the secret is hunter2")
            if order_id == 503:
                raise Refusal("orders_busy", "Busy.", None, {"retry_after_s": 2})
            details = {"order": order_id, "price": Decimal("580.10"), "fix": "List your orders."}
            raise Refusal("order_not_found", "There is no such order.", "id", details)

        return [routes]

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        for number in range(3):
            yield frame(b'{"n":%d}' % number, id=str(number))


class PriceDoors:
    def __init__(self, stop: asyncio.Event) -> None:
        self.parts: Mapping[str, Part] = {}
        self.ready: Mapping[str, Ready] = {"hub": lambda: True}
        self.direct: Handlers = {}

    def routers(self, principal: PrincipalDependency) -> list[APIRouter]:
        routes = APIRouter(tags=["prices"])

        @routes.get("/stockPrices")
        async def latest(symbol: str, _: Principal = Depends(principal)) -> dict[str, Any]:
            return {"symbol": symbol, "price": 580.25}

        return [routes]


class Openers:
    """The two doors, and what happened to them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.orders: OrderDoors | None = None

    def __call__(self) -> dict[Door, Opener]:
        return {"prices": self._open_prices, "orders": self._open_orders}

    @contextlib.asynccontextmanager
    async def _open_prices(self, stop: asyncio.Event) -> AsyncIterator[PriceDoors]:
        self.events.append("prices opened")
        yield PriceDoors(stop)
        self.events.append("prices closed")

    @contextlib.asynccontextmanager
    async def _open_orders(self, stop: asyncio.Event) -> AsyncIterator[OrderDoors]:
        self.events.append("orders opened")
        self.orders = OrderDoors(stop)
        yield self.orders
        self.events.append("orders closed")


def settings(**changes: Any) -> ApiSettings:
    secrets = Secrets(jwt_secret=SECRET, venue_api_key="k", webhook_secret="whsec_")
    return ApiSettings(infra=Infra(), secrets=secrets, **changes)


def application(roles: Sequence[Door] = DOORS, **changes: Any) -> tuple[FastAPI, OrderDoors]:
    """The api over the small doors, without running anything."""
    stop = asyncio.Event()
    orders = OrderDoors(stop)
    opened: dict[Door, api_app.Doors] = {"prices": PriceDoors(stop), "orders": orders}
    doors = {role: opened[role] for role in roles if role in opened}
    return api_app.build(settings(**changes), doors, tuple(roles), ManualClock()), orders


def client(app: FastAPI, token: str | None = None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test", headers=headers)


def token(role: Role = "investor", account: int | None = 1, secret: str = SECRET, ttl_s: int = 60) -> str:
    now_s = ManualClock().now_ns() // NS_PER_S
    asking = Principal(f"test-{role}", role, account if role == "investor" else None)
    return issue(key_of(secret), asking, now_s, ttl_s, "token-1")
