"""The whole way on real servers, every process its own: the same walk as on the twins, with garbage thrown in."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.bus import Message
from infra.bus_kafka import KafkaBus
from infra.contracts import DLQ_SUFFIX, ORDER_STATUS, ORDERS, PRICES
from tests.flow.walking import eventually, walk
from tests.real.system import running
from tests.tape_files import facts, write_slice

TICKS, ORDERS_PLACED = 100_000, 1_000
SPEED = 25  # the slice is twenty minutes of the recorded day
CONSUMED = (PRICES, ORDERS, ORDER_STATUS)
GARBAGE = b'{"s":"AAPL","d":\xff'


@pytest.mark.real
@pytest.mark.timeout(300)
async def test_a_tape_and_a_thousand_orders_travel_the_whole_way(tmp_path: Path) -> None:
    tape = write_slice(tmp_path / "tape.parquet", TICKS)
    expected = facts(tape)
    assert sum(expected.rows.values()) == TICKS
    variables = {"XGW_TAPE": str(tape), "XGW_TAPE_SPEED": f"{SPEED}x", "XGW_TAPE_LOOPS": "1"}
    with running(variables) as (stack, doors):
        bus = KafkaBus(stack.settings.infra.bootstrap, "test")
        await throw_garbage(bus)
        await walk(doors, expected, ORDERS_PLACED, play_s=150)
        await eventually("the garbage is parked", lambda: garbage_is_parked(bus), 30)


async def throw_garbage(bus: KafkaBus) -> None:
    """A message that nobody can read, in front of everything, on each topic that a worker of ours consumes."""
    producer = bus.producer()
    for topic in CONSUMED:
        await producer.send(topic, b"AAPL", GARBAGE, (("traceparent", b"00-kept"),))
    await producer.close()


async def garbage_is_parked(bus: KafkaBus) -> bool:
    """With its bytes, key and headers, and with the reason."""
    reader = await bus.read([topic + DLQ_SUFFIX for topic in CONSUMED], "earliest")
    parked: list[Message] = []
    try:
        while messages := await reader.batch(100, 2.0):
            parked += messages
    finally:
        await reader.close()
    assert sorted(message.topic for message in parked) == sorted(topic + DLQ_SUFFIX for topic in CONSUMED)
    for message in parked:
        assert (message.key, message.value) == (b"AAPL", GARBAGE)
        assert message.header("traceparent") == b"00-kept"
        assert message.header("kafka_dlt-original-topic") == message.topic.removesuffix(DLQ_SUFFIX).encode()
        assert message.header("__connect.errors.exception.class.name") == b"malformed"
    return True
