"""The order service on real servers: its doors and its worker, and desks in two processes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from infra.bus_kafka import KafkaBus
from infra.cache import CacheDown
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, Ids, SystemClock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, ORDER_EVENTS, ORDER_STATUS, Instrument, MarketStatus, encode
from infra.process import run_parts
from infra.settings import Infra
from order_service import app
from order_service.domain import risk
from order_service.domain.lifecycle import Status
from order_service.placing.desk import Desk
from order_service.placing.idempotency import Keys
from order_service.placing.market import Market
from order_service.settings import OrderSettings
from order_service.store.books_pg import PgBooks
from order_service.store.funding import DEMO_FUNDS, fund
from order_service.store.orders_pg import add_accounts, opened
from order_service.store.ports import Filter
from order_service.streams.fanout import Frame
from tests.flow.walking import eventually
from tests.unit.order_service.makers import BACK_OFFICE, INVESTOR, fill, report

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
        # Other tests have opened and closed sessions on this broker: what counts is the latest one.
        session = SystemClock().now_ns() // NS_PER_S
        await producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", session, 0)))
        await producer.send(INSTRUMENTS, b"AAPL", encode(Instrument("AAPL", "Apple", 10_000, 1, session)))
        await eventually("the doors are ready", lambda: _all_ready(doors), 30, 0.05)
        await fund(doors.books, BACK_OFFICE, 1, DEMO_FUNDS)
        good: dict[str, Any] = {"order_type": "buy", "type_": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "DAY"}
        asked = await doors.desk.preview(INVESTOR, **good, amount=Decimal("580.25"))
        assert risk.first(asked.question) is None
        done = await doors.desk.place(INVESTOR, **good, amount=Decimal("580.25"), key="k")
        assert (await doors.desk.place(INVESTOR, **good, amount=Decimal("580.25"), key="k")).replayed
        follower = doors.fanout.follow(1)
        for said in (report(done.order_id, "NEW", venue_seq=1), *[fill(done.order_id, 10, 580_000_000, 2)] * 2):
            await producer.send(ORDER_STATUS, done.order_id.encode(), encode(said))

        async def filled() -> bool:
            found = await doors.store.find(INVESTOR, done.order_id)
            return found is not None and found.status is Status.FILLED and found.version == 3

        await eventually("the reports are applied", filled, 30, 0.05)
        for event in await doors.store.events(INVESTOR, done.order_id):
            await producer.send(ORDER_EVENTS, b"1", event.payload.encode())
        async with asyncio.timeout(30):
            seen: list[int] = []
            while len(seen) < 3:
                following = await follower.following()
                if isinstance(following, Frame):  # heartbeats come in between
                    seen.append(following.seq)
        assert seen == [1, 2, 3]
        stop.set()
        await running
    await producer.close()


async def test_simultaneous_requests_of_one_key_in_two_desks_make_one_order(
    orders_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is away, so that only the database can know."""

    async def away(*_: Any, **__: Any) -> Any:
        raise CacheDown

    monkeypatch.setattr(MemoryCache, "put", away)
    await add_accounts(orders_db, [(1, "Account 1")])
    clock, stop = SystemClock(), asyncio.Event()
    listings = {"AAPL": risk.Listing("AAPL", 10_000, 1)}
    view, settings = Market(listings=listings, session=1, open=True, known=True), OrderSettings(infra=Infra())
    async with opened(orders_db, "one") as one, opened(orders_db, "two") as two:
        await fund(PgBooks(one, clock), BACK_OFFICE, 1, DEMO_FUNDS)
        desks = [
            Desk(store, lambda: view, Keys(MemoryCache(clock), clock), settings.rules, clock, Ids(clock), 100, 10)
            for store in (one, two)
        ]
        running = [asyncio.create_task(desk.run(stop)) for desk in desks]
        good: dict[str, Any] = {"order_type": "buy", "type_": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "DAY"}

        answers = await asyncio.gather(
            *(desks[i % 2].place(INVESTOR, **good, amount=Decimal("580.25"), key="k") for i in range(64))
        )
        assert len({answer.order_id for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert len({answer.body for answer in answers}) == 1
        assert len(await one.page(BACK_OFFICE, Filter())) == 1
        assert await PgBooks(one, clock).differences() == []
        stop.set()
        await asyncio.gather(*running)


async def _all_ready(doors: app.OrderDoors) -> bool:
    return all(ready() for ready in doors.ready.values())
