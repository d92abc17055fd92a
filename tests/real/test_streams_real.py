"""Streams of prices on real servers, from two processes of the api: tickets, changes and resumes cross between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.bus_kafka import KafkaBus
from infra.cache import RedisCache
from infra.clock import SystemClock
from infra.contracts import INSTRUMENTS, PRICES, Instrument, Tick, encode
from infra.db import engine
from infra.mailbox import RedisMailbox
from infra.settings import Infra
from price_service.app import DoorAdapters, Doors, WorkerAdapters, assemble, assemble_doors
from price_service.history.history_pg import PgHistory
from price_service.ingest.ticks_pg import PgTicks
from price_service.live.ticks_since_pg import PgTicksSince
from price_service.settings import Settings
from price_service.store.days_pg import PgSnapshots
from tests.flow.price_doors import on_port, streamed, token
from tests.unit.price_service.made import SESSION, quote, trade

pytestmark = pytest.mark.real
COUNT = 3_000


@dataclass(frozen=True)
class Process:
    port: int
    doors: Doors

    def client(self, bearer: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {bearer or token()}"} if bearer != "" else {}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=15, trust_env=False)


@contextlib.asynccontextmanager
async def process(servers: Infra, source: AsyncEngine, port: int, with_worker: bool) -> AsyncIterator[Process]:
    clock, stop, settings = SystemClock(), asyncio.Event(), Settings(infra=servers)
    bus, cache, mailbox = (
        KafkaBus(servers.bootstrap, "test"),
        RedisCache(servers.redis_url),
        RedisMailbox(servers.redis_url),
    )
    producer = bus.producer()
    outside = DoorAdapters(
        bus=bus,
        history=PgHistory(source),
        snapshots=PgSnapshots(source),
        cache=cache,
        clock=clock,
        ticks=PgTicksSince(source),
        mailbox=mailbox,
    )
    doors = assemble_doors(settings, outside, stop)
    worker = assemble(settings, WorkerAdapters(bus=bus, producer=producer, store=PgTicks(source), cache=cache))
    async with on_port(port, doors, worker.parts if with_worker else {}, cache, stop):
        yield Process(port, doors)
    await producer.close()
    await mailbox.close()
    await cache.close()


@pytest.fixture
async def processes(
    servers: Infra, prices_db: str, unused_tcp_port_factory: Callable[[], int]
) -> AsyncIterator[list[Process]]:
    source = engine(prices_db, "test", connections_max=6)
    async with (
        process(servers, source, unused_tcp_port_factory(), with_worker=True) as first,
        process(servers, source, unused_tcp_port_factory(), with_worker=False) as second,
    ):
        yield [first, second]
    await source.dispose()


@pytest.fixture
async def symbol(servers: Infra, processes: list[Process]) -> str:
    """Of this test alone: other tests use the same topics."""
    name = f"T{uuid4().hex[:8].upper()}"
    producer = KafkaBus(servers.bootstrap, "test").producer()
    await producer.send(INSTRUMENTS, name.encode(), encode(Instrument(name, name, 10_000, 1, SESSION)))
    await producer.close()
    async with asyncio.timeout(15):
        for each in processes:
            while name not in each.doors.following.traded:  # noqa: ASYNC110 - another task's progress
                await asyncio.sleep(0.05)
    return name


async def test_a_ticket_of_one_process_opens_a_stream_of_another_that_the_first_changes(
    processes: list[Process], symbol: str
) -> None:
    first, second = processes
    async with first.client() as page, second.client("") as browser:
        ticket = (await page.post("/streams/tickets")).json()["ticket"]
        async with streamed(browser, symbols=symbol, ticket=ticket) as found:
            stream_id = (await anext(found)).data["id"]
            answer = await page.patch(f"/stockPrices/streams/{stream_id}", json={"symbols": [symbol]})
            assert (answer.status_code, answer.json()["symbols"]) == (200, [symbol])
            assert (await page.delete(f"/stockPrices/streams/{stream_id}")).status_code == 204
            assert [event.event async for event in found][-1] == "closing"
        again = await browser.get("/stockPrices/stream", params={"symbols": symbol, "ticket": ticket})
        assert (again.status_code, again.json()["code"]) == (401, "ticket_invalid")


async def test_a_client_that_goes_from_process_to_process_misses_no_tick(
    servers: Infra, processes: list[Process], symbol: str
) -> None:
    """While ticks are sent it leaves after every few hundred, and goes on at the other process: partly from the store,
    which is behind, partly live."""
    sending = asyncio.create_task(_send(servers, symbol))
    got: list[int] = []
    last_id, turn = f"{symbol}:{SESSION}:0", 0
    while len(got) < COUNT:
        async with (
            processes[turn % 2].client() as client,
            streamed(client, symbols=symbol, conflate="false", last_event_id=last_id) as found,
        ):
            for _ in range(min(400, COUNT - len(got)) + 1):
                event = await anext(found)
                if event.event == "stream":
                    continue
                assert event.event == "tick", event
                got.append(event.data["sequence"])
                last_id = event.id
        turn += 1
    await sending
    assert got == list(range(1, COUNT + 1))


async def _send(servers: Infra, symbol: str) -> None:
    producer = KafkaBus(servers.bootstrap, "test").producer()
    for q in range(1, COUNT + 1):
        tick: Tick = trade(q, symbol=symbol) if q % 4 == 0 else quote(q, symbol=symbol)
        sent = producer.send(PRICES, symbol.encode(), encode(tick))
        if q % 25 == 0:
            await sent
            await asyncio.sleep(0.005)
    await producer.close()
