"""The headers of a parked message are those that Spring's and Kafka Connect's tools read."""

from __future__ import annotations

import pytest

from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import Topic
from infra.dlq.park import TEXT_CHARACTERS_MAX, Park, park, why
from infra.telemetry import PARKED

MESSAGE = Message("things", 3, 2**40, b"key", b"\x00value", (("event-id", b"e"),), 1_700_000_000_123)


def test_both_families_say_where_and_why() -> None:
    headers = dict(why(Park(MESSAGE, "malformed", "expected an int"), "group"))
    assert headers == {
        "kafka_dlt-original-topic": b"things",
        "kafka_dlt-original-partition": b"\0\0\0\3",
        "kafka_dlt-original-offset": b"\0\0\1\0\0\0\0\0",
        "kafka_dlt-original-timestamp": (1_700_000_000_123).to_bytes(8, "big"),
        "kafka_dlt-original-consumer-group": b"group",
        "kafka_dlt-exception-fqcn": b"malformed",
        "kafka_dlt-exception-message": b"expected an int",
        "__connect.errors.topic": b"things",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"1099511627776",
        "__connect.errors.connector.name": b"group",
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.exception.class.name": b"malformed",
        "__connect.errors.exception.message": b"expected an int",
    }


def test_a_record_without_a_time_can_be_parked() -> None:
    message = Message("things", 0, 0, None, None, (), -1)
    assert dict(why(Park(message, "c", "t"), "g"))["kafka_dlt-original-timestamp"] == b"\xff" * 8


def test_a_long_text_is_cut() -> None:
    headers = dict(why(Park(MESSAGE, "handler_error", "ä" * 5000), "group"))
    assert headers["kafka_dlt-exception-message"].decode() == "ä" * TEXT_CHARACTERS_MAX
    assert headers["__connect.errors.stage"] == b"TASK_PUT"


async def test_key_value_and_headers_stay_as_they_were() -> None:
    bus = MemoryBus(ManualClock(), [Topic("things.dlq", "key", "Parked.", 1)])
    counted = PARKED.labels("things")._value.get()
    await park(bus.producer(), "group", [Park(MESSAGE, "malformed", "no")])
    (parked,) = await (await bus.read(["things.dlq"], "earliest")).batch(10, 0)
    assert (parked.key, parked.value, parked.headers[0]) == (MESSAGE.key, MESSAGE.value, ("event-id", b"e"))
    assert PARKED.labels("things")._value.get() == counted + 1


async def test_nothing_to_park() -> None:
    await park(MemoryBus(ManualClock(), []).producer(), "group", [])


async def test_a_park_that_is_not_durable_is_an_error_and_not_counted() -> None:
    bus = MemoryBus(ManualClock(), [])
    counted = PARKED.labels("things")._value.get()
    with pytest.raises(Exception, match="does not exist"):
        await park(bus.producer(), "group", [Park(MESSAGE, "malformed", "no")])
    assert PARKED.labels("things")._value.get() == counted
