"""POST /orders over HTTP: api processes that do nothing else, and clients who wait for each answer before the next."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import httpx

from api.auth.tokens import issue, key_of
from api.settings import signing_secret
from infra.bus_kafka import KafkaBus
from infra.clock import NS_PER_S, Ids, SystemClock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, Instrument, MarketStatus, encode
from infra.stack.layout import REPOSITORY
from infra.stack.ports import free_numbers
from tests.bench.costs import costs
from tests.bench.figures import percentile
from tests.bench.order_writes import ASKERS, CALLERS, Speed

SYMBOL = "BENCHORDERS"
READY_S = 60
OPEN = {"XGW_ORDER_OPEN_MAX": "1000000000", "XGW_ORDER_PER_SECOND_MAX": "1000000000", "XGW_LOG_LEVEL": "WARNING"}


async def listed(bus: KafkaBus) -> None:
    """An open market with one symbol; its LIMIT orders need no quote."""
    producer, now_ns = bus.producer(), SystemClock().now_ns()
    await producer.send(INSTRUMENTS, SYMBOL.encode(), encode(Instrument(SYMBOL, "Bench orders", 10_000, 1, 1)))
    await producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", now_ns // NS_PER_S, now_ns)))
    await producer.close()


@contextmanager
def apis(variables: Mapping[str, str], count: int) -> Iterator[list[tuple[int, int]]]:
    """(pid, port) of api processes that take orders only."""
    ports = free_numbers(count)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "api", "--roles", "orders"],
            env={**os.environ, **variables, **OPEN, "XGW_API_PORT": str(port)},
            cwd=REPOSITORY,
        )
        for port in ports
    ]
    try:
        yield [(one.pid, port) for one, port in zip(running, ports, strict=True)]
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait(30)


async def measure(
    running: Sequence[tuple[int, int]], postgres: int, environ: Mapping[str, str], seconds: float
) -> Speed:
    """The clients are spread over the processes; each has a connection and an account of its own."""
    for _, port in running:
        await _ready(port)
    clock = SystemClock()
    key, ids = key_of(signing_secret(environ)), Ids(clock)
    tokens = [issue(key, asker, clock.now_ns() // NS_PER_S, 3600, ids.text7()) for asker in ASKERS[:CALLERS]]
    took_ms: list[float] = []
    pids = {str(pid): pid for pid, _ in running} | {"postgres": postgres}
    async with _connected([port for _, port in running], tokens) as clients:
        await asyncio.gather(*(client.post_until(time.perf_counter() + 2, []) for client in clients))
        before, started = costs(pids), time.perf_counter()
        await asyncio.gather(*(client.post_until(started + seconds, took_ms) for client in clients))
        elapsed, after = time.perf_counter() - started, costs(pids)
    spent = {name: (after[name].cpu_s - before[name].cpu_s) / len(took_ms) * 1e6 for name in pids}
    server_us = spent.pop("postgres")
    return Speed(
        len(took_ms) / elapsed,
        percentile(took_ms, 50),
        percentile(took_ms, 99),
        sum(spent.values()),
        server_us,
        len(took_ms),
    )


class Client:
    """The least that speaks HTTP/1.1, so that the load costs little beside what it measures."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, seed: int) -> None:
        self._reader = reader
        self._writer = writer
        self._head = (
            f"POST /orders HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n"
            "content-type: application/json\r\ncontent-length: "
        )
        self._chance = random.Random(seed)

    async def post_until(self, end: float, took_ms: list[float]) -> None:
        while (started := time.perf_counter()) < end:
            price = self._chance.randrange(10_000, 20_000) / 100
            body = json.dumps(
                {"orderType": "buy", "type": "LIMIT", "symbol": SYMBOL, "quantity": 1 + len(took_ms), "amount": price}
            )
            self._writer.write(f"{self._head}{len(body)}\r\n\r\n{body}".encode())
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            answer = await self._reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"{head!r} {answer!r}")
            took_ms.append((time.perf_counter() - started) * 1000)


@asynccontextmanager
async def _connected(ports: Sequence[int], tokens: Sequence[str]) -> AsyncIterator[list[Client]]:
    clients, writers = [], []
    for number, token in enumerate(tokens):
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[number % len(ports)])
        writers.append(writer)
        clients.append(Client(reader, writer, token, number))
    try:
        yield clients
    finally:
        for writer in writers:
            writer.close()


async def _ready(port: int) -> None:
    deadline = time.monotonic() + READY_S
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise TimeoutError(f"the api on port {port} does not become ready")
