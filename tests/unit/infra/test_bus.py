"""Reading a bus that is away at first, and sharing one with a member that dies before it ever reads."""

from __future__ import annotations

import asyncio

import pytest

from infra import bus
from infra.bus import BusError, TopicPartition, insisting
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import ORDERS, Topic


async def test_a_bus_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, calls = asyncio.Event(), 0

    async def reading(stopped: asyncio.Event) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise BusError("away")
        stopped.set()

    monkeypatch.setattr(bus, "RETRY_S", 0.001)
    await asyncio.wait_for(insisting("prices", reading, stop), 5)
    assert calls == 3


async def test_partitions_come_back_from_a_member_that_never_read() -> None:
    memory = MemoryBus(ManualClock(), [Topic(ORDERS, "order id", "", partitions=2)])
    assigned: list[list[TopicPartition]] = []

    async def on_assigned(places: list[TopicPartition]) -> dict[TopicPartition, int]:
        assigned.append(places)
        return {}

    first = await memory.subscribe([ORDERS], "group", on_assigned)
    await first.batch(10, 0.0)
    second = await memory.subscribe([ORDERS], "group")
    await first.batch(10, 0.0)
    await second.close()
    for key in (b"a", b"b", b"c", b"d"):
        await memory.producer().send(ORDERS, key, b"x")
    assert len(await first.batch(10, 0.0)) == 4
    assert [len(places) for places in assigned] == [2, 1]
