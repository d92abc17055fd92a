"""The order service on real servers: its doors and its worker, and desks in two processes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from infra.bus_kafka import KafkaBus
from infra.contracts import INSTRUMENTS, ORDER_EVENTS, ORDER_STATUS, Instrument, encode
from infra.process import run_parts
from infra.settings import Infra
from order_service import app
from order_service.domain.lifecycle import Status
from order_service.settings import OrderSettings
from order_service.store.orders_pg import add_accounts
from tests.flow.walking import eventually
from tests.unit.order_service.makers import INVESTOR, fill, report

pytestmark = pytest.mark.real


async def test_the_doors_and_the_worker_on_kafka(
    servers: Infra, orders_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POST → PostgreSQL; a report from Kafka → the order; the event from Kafka → the follower."""
    monkeypatch.setattr(Infra, "dsn", lambda self, name: orders_db)
    await add_accounts(orders_db, [(1, "Account 1")])
    settings, stop = OrderSettings(infra=servers), asyncio.Event()
    bus = KafkaBus(servers.bootstrap, "test")
    producer = bus.producer()
    async with app.open_doors(settings, stop) as doors, app.opened(settings, stop) as service:
        running = asyncio.create_task(run_parts({**doors.parts, **service.parts}, stop))
        await producer.send(INSTRUMENTS, b"AAPL", encode(Instrument("AAPL", "Apple", 10_000, 1, 1)))
        await eventually("the doors are ready", lambda: _all_ready(doors), 30, 0.05)
        good: dict[str, Any] = {"order_type": "buy", "type_": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "DAY"}
        done = await doors.desk.place(INVESTOR, **good, amount=Decimal("580.25"), key="k")
        assert (await doors.desk.place(INVESTOR, **good, amount=Decimal("580.25"), key="k")).replayed
        follower = doors.fanout.follow(1)
        for said in (report(done.order, "NEW", venue_seq=1), *[fill(done.order, 10, 580_000_000, 2)] * 2):
            await producer.send(ORDER_STATUS, done.order.id.encode(), encode(said))

        async def filled() -> bool:
            found = await doors.store.find(INVESTOR, done.order.id)
            return found is not None and found.status is Status.FILLED and found.version == 3

        await eventually("the reports are applied", filled, 30, 0.05)
        for event in await doors.store.events(INVESTOR, done.order.id):
            await producer.send(ORDER_EVENTS, b"1", event.payload.encode())
        async with asyncio.timeout(30):
            frames = [await follower.following() for _ in range(3)]
        assert [frame and frame.seq for frame in frames] == [1, 2, 3]
        stop.set()
        await running
    await producer.close()


async def _all_ready(doors: app.OrderDoors) -> bool:
    return all(ready() for ready in doors.ready.values())
