"""An outbox row: from the moment its insert is sent to the moment a consumer holds the record; and what the relay costs
those who commit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg

from infra.bus_kafka import KafkaBus
from infra.contracts import EVENT_ID, ORDER_EVENTS
from tests.bench.figures import paced

INSERT = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent, schema)
VALUES (%s, %s, %s, 'Bench', %s, '', '', '1')"""
PAYLOAD = "{" + " " * 298 + "}"
WRITERS = 8
WARM_UP, WARM_UP_PER_S = 50, 50.0  # the first records warm the publisher's producer up
DEADLINE_S = 60

Connection = psycopg.AsyncConnection[tuple[object, ...]]


async def measure(bus: KafkaBus, orders_dsn: str, per_second: float, seconds: float) -> list[float]:
    """Milliseconds per row; one transaction a row, each committed durably, whoever publishes a process of its own. An
    insert that finds all connections busy is sent when one is free, and measured from there."""
    reader = await bus.read([ORDER_EVENTS], "latest")
    waiting: asyncio.Queue[str] = asyncio.Queue()
    sent_ns: dict[str, int] = {}
    latencies: list[float] = []

    async def write(connection: Connection) -> None:
        while True:
            row_id = await waiting.get()
            sent_ns[row_id] = time.perf_counter_ns()
            await connection.execute(INSERT, (row_id, ORDER_EVENTS, row_id, PAYLOAD))

    async def receive(count: int) -> None:
        seen = 0
        while seen < count:
            for message in await reader.batch(1000, 0.5):
                row_id = (message.header(EVENT_ID) or b"").decode()
                if row_id in sent_ns:
                    latencies.append((time.perf_counter_ns() - sent_ns.pop(row_id)) / 1e6)
                    seen += 1

    async def emit(_: int) -> None:
        waiting.put_nowait(str(uuid4()))

    async with _connections(orders_dsn) as connections:
        writing = [asyncio.create_task(write(connection)) for connection in connections]
        for count, rate in ((WARM_UP, WARM_UP_PER_S), (round(per_second * seconds), per_second)):
            latencies.clear()
            receiving = asyncio.create_task(receive(count))
            await paced(rate, count / rate, emit)
            async with asyncio.timeout(DEADLINE_S):
                await receiving
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
    await reader.close()
    return latencies


async def commits_per_second(orders_dsn: str, seconds: float) -> float:
    """A closed loop: each connection commits one row after the other."""
    until_s, count = time.monotonic() + seconds, 0

    async def write(connection: Connection) -> None:
        nonlocal count
        while time.monotonic() < until_s:
            row_id = str(uuid4())
            await connection.execute(INSERT, (row_id, ORDER_EVENTS, row_id, PAYLOAD))
            count += 1

    async with _connections(orders_dsn) as connections:
        await asyncio.gather(*[write(connection) for connection in connections])
    return count / seconds


def wait_caught_up(orders_dsn: str) -> None:
    """Until the slots' readers have confirmed all that is written."""
    behind = "SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn < %s::pg_lsn OR NOT active"
    deadline_s = time.monotonic() + DEADLINE_S
    with psycopg.connect(orders_dsn, autocommit=True) as connection:
        (here,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("0/0",)
        while connection.execute(behind, (here,)).fetchone():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"a slot is still before {here}")
            time.sleep(0.1)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used so far, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def _connections(dsn: str) -> AsyncIterator[list[Connection]]:
    async with contextlib.AsyncExitStack() as held:
        made = [await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(WRITERS)]
        for connection in made:
            held.push_async_callback(connection.close)
        yield made
