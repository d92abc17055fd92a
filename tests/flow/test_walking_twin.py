"""The whole way on the twins: one process, no server."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from api import demo
from infra.bus_memory import MemoryBus
from infra.clock import SystemClock
from infra.contracts import ORDER_EVENTS, OrderEvent, decode
from infra.principal import Principal, Role
from infra.stack.stack import free_ports
from price_service.store.memory import MemoryPrices
from tests.flow.walking import Doors, eventually, walk
from tests.tape_files import facts, write_slice

TICKS, ORDERS = 100_000, 1_000
SPEED = 60  # the slice is twenty minutes of the recorded day


class MemoryInside:
    def __init__(self, bus: MemoryBus, prices: MemoryPrices) -> None:
        self._bus = bus
        self._prices = prices

    async def tick_counts(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
        for received in self._prices.ticks:
            numbers[received.tick.s, received.tick.d].append(received.tick.q)
        return {place: (len(found), len(set(found)), max(found)) for place, found in numbers.items()}

    async def order_events(self) -> list[OrderEvent]:
        reader = await self._bus.read([ORDER_EVENTS], "earliest")
        found: list[OrderEvent] = []
        while messages := await reader.batch(10_000, 0.05):
            found += [decode(OrderEvent, message.value) for message in messages]
        return found


@pytest.mark.timeout(240)
async def test_a_tape_and_a_thousand_orders_travel_the_whole_way(tmp_path: Path) -> None:
    tape = write_slice(tmp_path / "tape.parquet", TICKS)
    expected = facts(tape)
    assert sum(expected.rows.values()) == TICKS
    ports = free_ports(tmp_path / "run", tmp_path).infra
    environ = demo.with_secrets(
        {
            "XGW_TAPE": str(tape),
            "XGW_TAPE_SPEED": f"{SPEED}x",
            "XGW_TAPE_LOOPS": "1",
            "XGW_API_PORT": str(ports.api_port),
            "XGW_VENUE_PORT": str(ports.venue_port),
            "XGW_GATEWAY_PORT": str(ports.gateway_port),
        }
    )

    def token(role: Role, account: int | None) -> str:
        return demo.token(environ, Principal(role, role, account), SystemClock())

    stop = asyncio.Event()
    async with demo.opened(environ, stop, records_max=TICKS) as system:
        running = asyncio.create_task(system.run(stop))
        doors = Doors(
            api_url=f"http://127.0.0.1:{ports.api_port}",
            venue_url=f"http://127.0.0.1:{ports.venue_port}",
            venue_key=environ["XGW_VENUE_API_KEY"],
            token=token,
            inside=MemoryInside(system.bus, system.prices),
        )
        try:

            async def ready() -> bool:
                return system.ready()

            await eventually("everything is ready", ready, 20)
            await walk(doors, expected, ORDERS, play_s=120)
        finally:
            stop.set()
            await running
