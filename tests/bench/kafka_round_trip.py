"""The ceiling of every latency here: one record from a producer's call to a consumer, same client and broker."""

from __future__ import annotations

import asyncio
import time

from infra.bus_kafka import KafkaBus
from infra.contracts import DLQ_SUFFIX, PRICES
from tests.bench.figures import paced

# A declared topic that nothing else of the bench uses.
SCRATCH = PRICES + DLQ_SUFFIX
VALUE = b"x" * 300


async def measure(bus: KafkaBus, per_second: float, seconds: float) -> list[float]:
    """Milliseconds from send to receive, one sample a record (300 B)."""
    reader = await bus.read([SCRATCH], "latest")
    producer = bus.producer()
    await producer.send(SCRATCH, b"warm-up", VALUE)
    sent_ns: dict[bytes, int] = {}
    latencies: list[float] = []
    expected = round(per_second * seconds)

    async def receive() -> None:
        while len(latencies) < expected:
            messages, now_ns = await reader.batch(1000, 0.5), time.perf_counter_ns()
            latencies.extend((now_ns - sent_ns.pop(m.key)) / 1e6 for m in messages if m.key in sent_ns)

    async def emit(number: int) -> None:
        key = str(number).encode()
        sent_ns[key] = time.perf_counter_ns()
        producer.send(SCRATCH, key, VALUE)

    receiving = asyncio.create_task(receive())
    await paced(per_second, seconds, emit)
    await asyncio.wait_for(receiving, 30)
    await producer.close()
    await reader.close()
    return latencies
