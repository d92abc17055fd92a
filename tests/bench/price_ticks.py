"""A steady load of ticks into Kafka, from a process of its own: `python -m tests.bench.price_ticks '{…}'`.

Every tick is a trade of one share, and each symbol has one in each turn, in an order that changes. So the volume of a
symbol says how many of its ticks were applied, and its price which was the last.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence

import confluent_kafka
import msgspec

from infra.bus_kafka import KafkaBus
from infra.contracts import INSTRUMENTS, MARKET_STATUS, MICROS_PER_UNIT, PRICES, Instrument, MarketStatus, encode
from infra.stack.layout import REPOSITORY
from tests.bench import cores
from tests.bench.sse_clients import Value

TICK_MICROS = 10_000
FIRST_MICROS = 100 * MICROS_PER_UNIT
TURN_ORDERS = 16
# Milliseconds. Under load batches fill by themselves, while a request is on its way.
LINGER_MS = 0
STEP_S = 0.001


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to produce. `first` is the first sequence number of each symbol."""

    bootstrap: str
    session: int
    symbols: list[str]
    per_second: float
    seconds: float
    first: int = 1


class Produced(msgspec.Struct, frozen=True):
    """`late_ms`: how far the load fell behind its schedule at worst."""

    ticks: int
    late_ms: float
    seconds: float


def names(count: int) -> list[str]:
    return [f"A{number:04d}" for number in range(count)]


async def listed(bus: KafkaBus, symbols: Sequence[str], session: int) -> None:
    """Tell the system what is traded, as a venue does when it opens."""
    producer = bus.producer(linger_ms=5)
    told = [producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", session, time.time_ns())))]
    for symbol in symbols:
        instrument = Instrument(symbol, f"Bench {symbol}", TICK_MICROS, 1, session, FIRST_MICROS)
        told.append(producer.send(INSTRUMENTS, symbol.encode(), encode(instrument)))
    for one in told:
        await one
    await producer.close()


def expected(load: Load, ticks: int) -> dict[str, Value]:
    """What a client shows once all these ticks have reached it. `ticks` is a whole number of turns."""
    turns = load.first - 1 + ticks // len(load.symbols)
    return dict.fromkeys(load.symbols, Value(turns, _price(turns) // 100))


def started(load: Load) -> subprocess.Popen[bytes]:
    command = cores.anywhere([sys.executable, "-m", "tests.bench.price_ticks", msgspec.json.encode(load).decode()])
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)


def finished(running: subprocess.Popen[bytes], deadline_s: float) -> Produced:
    try:
        output, _ = running.communicate(timeout=deadline_s)
    finally:
        running.kill()
    return msgspec.json.decode(output, type=Produced)


def produce(load: Load) -> Produced:
    """An open loop: what came late is sent all the same, so the load is as stated."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": load.bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": LINGER_MS,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.list_topics(timeout=10)
    failed: list[str] = []

    def delivered(error: confluent_kafka.KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    chance, symbols = random.Random(1), load.symbols
    keys = [symbol.encode() for symbol in symbols]
    heads = [b'{"k":"T","s":"%s","d":%d,"q":' % (key, load.session) for key in keys]
    orders = [chance.sample(range(len(keys)), len(keys)) for _ in range(TURN_ORDERS)]
    total = max(1, round(load.per_second * load.seconds / len(keys))) * len(keys)
    begun, sent, late_s = time.monotonic(), 0, 0.0
    while sent < total:
        now = time.monotonic()
        due = min(total, int((now - begun) * load.per_second) + 1)
        for number in range(sent, due):
            turn, place = divmod(number, len(keys))
            which, q = orders[turn % TURN_ORDERS][place], load.first + turn
            tail = b'%d,"t":%d,"p":%d,"z":1}' % (q, time.time_ns(), _price(q))
            producer.produce(PRICES, heads[which] + tail, keys[which], on_delivery=delivered)
        late_s = max(late_s, now - begun - sent / load.per_second)
        sent = due
        producer.poll(STEP_S)
    left = producer.flush(30)
    assert left == 0, f"{left} ticks were not taken by the broker"
    assert not failed, f"ticks were refused by the broker: {failed[0]}"
    return Produced(sent, late_s * 1000, time.monotonic() - begun)


def _price(q: int) -> int:
    return FIRST_MICROS + q % 1_000 * TICK_MICROS


if __name__ == "__main__":
    print(msgspec.json.encode(produce(msgspec.json.decode(sys.argv[1], type=Load))).decode())
