"""The api as it runs: doors opened by role, a real port, a stream that is told about the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx

from api import app as api_app
from api.roles import DOORS
from infra.clock import ManualClock
from infra.process import health_routes, run_service
from tests.unit.api.doors import Openers, client, settings, token


async def test_a_client_signs_in_reads_streams_and_is_refused_in_one_form() -> None:
    openers, stop = Openers(), asyncio.Event()
    async with api_app.opened(settings(), openers(), stop, DOORS, ManualClock()) as service:
        service.app.include_router(health_routes(service))
        async with client(service.app, token(account=5)) as http:
            placed = await http.post("/orders", json={"symbol": "AAPL", "quantity": 1})
            assert (placed.status_code, placed.json()["accountId"]) == (201, 5)
            assert (await http.get("/stockPrices?symbol=AAPL")).json()["price"] == 580.25
            updates = await http.get("/orders/stream")
            assert updates.headers["content-type"].startswith("text/event-stream")
            assert updates.text.count("data: ") == 3
            assert (await http.get("/orders/9")).json()["code"] == "order_not_found"
            assert (await http.get("/readyz")).json() == {"process": "api", "ready": True, "missing": []}
            assert openers.orders is not None
            openers.orders.is_open = False
            assert (await http.get("/readyz")).status_code == 503
            assert 'route="POST /orders",status="201"' in (await http.get("/metrics")).text
    assert openers.events == ["prices opened", "orders opened", "orders closed", "prices closed"]


async def test_only_the_doors_of_the_roles_are_opened() -> None:
    openers = Openers()
    async with api_app.opened(settings(), openers(), asyncio.Event(), ("prices", "ops"), ManualClock()) as service:
        assert set(service.ready) == {"hub"}
    assert openers.events == ["prices opened", "prices closed"]


async def test_on_a_port_a_huge_chunked_body_is_refused_and_the_end_is_clean() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stop = asyncio.Event()
    async with api_app.opened(settings(), Openers()(), stop, DOORS, ManualClock()) as service:
        running = asyncio.create_task(run_service(service, "127.0.0.1", port, stop))
        headers = {"authorization": f"Bearer {token()}"}
        transport = httpx.AsyncHTTPTransport(retries=20)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, transport=transport, trust_env=False
        ) as http:
            assert (await http.get("/healthz")).json()["status"] == "alive"
            answer = await http.post("/orders", content=_endless())
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert (await http.get("/stockPrices?symbol=AAPL")).status_code == 200
        stop.set()
        await asyncio.wait_for(running, 5)


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1024
