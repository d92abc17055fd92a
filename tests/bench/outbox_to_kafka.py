"""An outbox row: from the moment its insert is sent to the moment a consumer holds the record."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import psycopg

from infra.bus_kafka import KafkaBus
from infra.contracts import EVENT_ID, ORDER_EVENTS
from tests.bench.figures import paced

INSERT = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent, schema)
VALUES (%s, %s, %s, 'Bench', %s, '', '', '1')"""
WRITERS = 4


async def measure(bus: KafkaBus, orders_dsn: str, per_second: float, seconds: float) -> list[float]:
    """Milliseconds per row; one transaction a row, each committed durably, the relay a process of its own."""
    reader = await bus.read([ORDER_EVENTS], "latest")
    writers = [await psycopg.AsyncConnection.connect(orders_dsn, autocommit=True) for _ in range(WRITERS)]
    free: asyncio.Queue[psycopg.AsyncConnection[tuple[object, ...]]] = asyncio.Queue()
    for writer in writers:
        free.put_nowait(writer)
    sent_ns: dict[str, int] = {}
    latencies: list[float] = []
    counted, payload = round(per_second * seconds), "{" + " " * 298 + "}"
    inserts: set[asyncio.Task[None]] = set()

    async def insert(row_id: str) -> None:
        connection = await free.get()
        sent_ns[row_id] = time.perf_counter_ns()
        await connection.execute(INSERT, (row_id, ORDER_EVENTS, row_id, payload))
        free.put_nowait(connection)

    async def receive(count: int) -> None:
        seen = 0
        while seen < count:
            for message in await reader.batch(1000, 0.5):
                row_id = (message.header(EVENT_ID) or b"").decode()
                if row_id in sent_ns:
                    latencies.append((time.perf_counter_ns() - sent_ns.pop(row_id)) / 1e6)
                    seen += 1

    async def emit(_: int) -> None:
        task = asyncio.create_task(insert(str(uuid4())))
        inserts.add(task)
        task.add_done_callback(inserts.discard)

    for count, rate in ((50, 50.0), (counted, per_second)):  # the first ones warm the relay's producer up
        latencies.clear()
        receiving = asyncio.create_task(receive(count))
        await paced(rate, count / rate, emit)
        await asyncio.wait_for(receiving, 60)
    for writer in writers:
        await writer.close()
    await reader.close()
    return latencies
