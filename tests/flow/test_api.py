"""The api as it runs: doors opened by role, a real port, a stream that is told about the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from api import app as api_app
from api.ops.doors import OpsDoors
from api.roles import DOORS
from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import Ids, ManualClock
from infra.contracts import ORDERS
from infra.dlq.index import index_part
from infra.dlq.letters_memory import MemoryLetters
from infra.dlq.park import Park, park
from infra.dlq.replay import LocalTurn, Replay
from infra.process import background, health_routes, run_service
from infra.switches import MemorySwitches, Switchboard
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


async def test_an_operator_sees_what_was_parked_sends_it_back_and_stops_trading() -> None:
    clock, stop = ManualClock(), asyncio.Event()
    bus, letters = MemoryBus(clock), MemoryLetters(clock)
    switches = MemorySwitches(bus.producer(), clock, Ids(clock))
    board = Switchboard(bus, poll_s=0.01)

    @contextlib.asynccontextmanager
    async def ops(_: asyncio.Event) -> AsyncIterator[OpsDoors]:
        yield OpsDoors(letters, Replay(letters, bus.producer(), LocalTurn()), switches)

    openers = Openers()() | {"ops": ops}
    async with (
        background(index_part(bus, letters)),
        background(board.run),
        api_app.opened(settings(), openers, stop, DOORS, clock) as service,
        client(service.app, token("operator")) as http,
    ):
        message = Message(ORDERS, 0, 7, b"018bcfe5-687b-7000-8000-000000000001", b"{", (("event-id", b"e"),), 1)
        await park(bus.producer(), "exchange-gateway", [Park(message, "malformed", "cut short")])

        async def indexed() -> bool:
            return bool((await http.get("/ops/dlq?state=parked")).json()["letters"])

        await until(indexed)
        (letter,) = (await http.get("/ops/dlq?topic=orders&code=malformed")).json()["letters"]
        assert (letter["offset"], letter["text"]) == (7, "cut short")
        wanted = {"topic": "orders", "code": "malformed", "reason": "mended"}
        assert (await http.post("/ops/dlq/replays", json=wanted)).json()["results"][0]["outcome"] == "replayed"
        (again,) = await (await bus.read([ORDERS], "earliest")).batch(10, 0)
        assert (again.key, again.value, again.header("event-id")) == (message.key, b"{", b"e")

        put = await http.put("/ops/switches/symbol:AAPL", json={"mode": "cancel_only", "reason": "bad prints"})
        assert put.status_code == 200

        async def stopped() -> bool:
            return board.view.strictest("AAPL", 1) is not None

        await until(stopped)
        assert board.view.strictest("MSFT", 1) is None


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - the condition is another task's progress
            await asyncio.sleep(0.01)


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1024
