"""What the order service is made of. Its doors run in the api's process, its worker in its own; only here are they
wired, for real (`open_doors`, `opened`) or on any bus and store (`doors`, `worker`: tests and the demo)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI

from infra.bus import Bus, BusError
from infra.bus_kafka import KafkaBus
from infra.cache import Cache, RedisCache
from infra.clock import Clock, Ids, SystemClock
from infra.contracts import ORDER_STATUS, Snapshot
from infra.db import TRANSIENT, engine, leased
from infra.direct import Handlers
from infra.dlq.index import index_part
from infra.dlq.letters import DeadLetters
from infra.dlq.letters_pg import PgLetters
from infra.expiry import Expiries
from infra.process import Part, Ready, Service
from infra.switches import Switchboard
from infra.worker import Handler, Worker
from order_service.chase.chase import Chase
from order_service.history.account import routes as account_routes
from order_service.history.routes import routes as history_routes
from order_service.placing.desk import Desk
from order_service.placing.idempotency import TIMEOUT_S, Keys
from order_service.placing.market import MarketWatch
from order_service.placing.routes import place_handler
from order_service.placing.routes import routes as placing_routes
from order_service.rebuild.routes import routes as rebuild_routes
from order_service.reconcile.reconcile import Reconcile
from order_service.reconcile.routes import routes as break_routes
from order_service.reports.order_status import GROUP, NotYetVisibleError, OrderStatus
from order_service.settings import OrderSettings
from order_service.store.books_pg import PgBooks
from order_service.store.breaks_pg import PgBreaks
from order_service.store.orders_pg import opened as opened_store
from order_service.store.ports import Books, Breaks, OrderStore, Watch
from order_service.store.watch_pg import PgWatch
from order_service.streams.fanout import Fanout
from order_service.streams.heartbeat import Heartbeats
from order_service.streams.routes import routes as stream_routes

NAME = "order_service"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorAdapters:
    """The outside of the doors, real or in memory; closed by who made it."""

    bus: Bus
    store: OrderStore
    books: Books
    cache: Cache
    clock: Clock
    ids: Ids


@dataclass(frozen=True, slots=True)
class OrderDoors:
    """The order routes, what must run beside them in the same process, and when they can do their work."""

    store: OrderStore
    books: Books
    desk: Desk
    keys: Keys
    market: MarketWatch
    switchboard: Switchboard
    fanout: Fanout
    heartbeats: Heartbeats
    stop: asyncio.Event
    expiries: Expiries

    @property
    def parts(self) -> Mapping[str, Part]:
        return {
            "order-desk": self.desk.run,
            "market": self.market.run,
            "quotes": self.market.follow_quotes,
            "switches": self.switchboard.run,
            "order-stream": self.fanout.run,
            "order-heartbeats": self.heartbeats.run,
        }

    @property
    def ready(self) -> Mapping[str, Ready]:
        return {"market": self.market.ready, "switches": self.switchboard.ready, "order-stream": self.fanout.ready}

    @property
    def direct(self) -> Handlers:
        return {("POST", "/orders"): place_handler(self.desk)}

    def routers(self, principal: Callable[..., Any]) -> list[APIRouter]:
        """`principal` is a FastAPI dependency that gives an infra.principal.Principal."""
        return [
            placing_routes(self.desk, principal),
            # before /orders/{id}
            stream_routes(self.store, self.fanout, self.heartbeats, principal, self.stop, self.expiries),
            history_routes(self.store, principal),
            account_routes(self.books, principal),
        ]

    async def close(self) -> None:
        """After the last request: what it left to be done is done."""
        await self.keys.close()


def doors(settings: OrderSettings, outside: DoorAdapters, stop: asyncio.Event) -> OrderDoors:
    switchboard = Switchboard(outside.bus)
    market = MarketWatch(outside.bus, switchboard)
    keys = Keys(outside.cache, outside.clock)
    desk = Desk(
        outside.store,
        lambda: market.view,
        keys,
        settings.rules,
        outside.clock,
        outside.ids,
        queue_max=settings.order_queue_max,
        batch_max=settings.order_batch_max,
    )
    fanout = Fanout(outside.bus, settings.order_stream_queue_max)
    heartbeats = Heartbeats(outside.store, fanout)
    expiries = Expiries(outside.clock)
    return OrderDoors(outside.store, outside.books, desk, keys, market, switchboard, fanout, heartbeats, stop, expiries)


@dataclass(frozen=True, slots=True)
class OperatorDoors:
    """What operators may look at and decide here."""

    watch: Watch
    breaks: Breaks

    def routers(self, operator: Callable[..., Any]) -> list[APIRouter]:
        """`operator` is the FastAPI dependency that admits operators only."""
        return [break_routes(self.breaks, operator), rebuild_routes(self.watch, operator)]


def _alone(name: str, part: Part) -> Part:
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAdapters:
    """The outside of the worker, real or in memory. `once` makes a part run in one process only."""

    bus: Bus
    store: OrderStore
    watch: Watch
    books: Books
    breaks: Breaks
    letters: DeadLetters
    clock: Clock
    ids: Ids
    once: Callable[[str, Part], Part] = _alone


async def worker(settings: OrderSettings, outside: WorkerAdapters) -> Service:
    """Applies what the exchange and the gateway report, compares the exchange's side with ours, chases what nobody
    answers, and keeps the list of dead letters."""
    producer = outside.bus.producer()
    reports = Worker(
        name=GROUP,
        subscription=await outside.bus.subscribe([ORDER_STATUS], GROUP),
        producer=producer,
        handler=status_handler(settings, outside),
        messages_max=settings.order_reports_max,
        transient=(*TRANSIENT, BusError, NotYetVisibleError),
    )
    chase = Chase(outside.store, outside.watch, outside.clock, outside.ids, settings.patience)
    consuming = asyncio.Event()

    async def run(stop: asyncio.Event) -> None:
        consuming.set()
        try:
            await reports.run(stop)
        finally:
            consuming.clear()
            await producer.close()

    parts = {
        ORDER_STATUS: run,
        "chase": outside.once("chase", chase.run),
        "dead-letters": index_part(outside.bus, outside.letters),
    }
    return Service(NAME, FastAPI(title=NAME), parts, {ORDER_STATUS: consuming.is_set})


def status_handler(settings: OrderSettings, outside: WorkerAdapters) -> Handler:
    """Of the topic `order-status`: reports, and the parts of snapshots, whose repairs are reports again."""

    async def snapshot(part: Snapshot) -> None:
        await reconcile.take(part)

    status = OrderStatus(outside.store, outside.clock, outside.ids, snapshot)
    reconcile = Reconcile(
        outside.store,
        outside.watch,
        outside.books,
        outside.breaks,
        status.apply,
        outside.clock,
        outside.ids,
        settings.reconcile_grace_us,
    )
    return status.handle


@contextlib.asynccontextmanager
async def open_doors(settings: OrderSettings, stop: asyncio.Event) -> AsyncIterator[OrderDoors]:
    """The doors on PostgreSQL, Kafka and Redis."""
    clock, infra = SystemClock(), settings.infra
    bus, cache = KafkaBus(infra.bootstrap, "api-orders"), RedisCache(infra.redis_url, TIMEOUT_S)
    try:
        async with opened_store(infra.dsn("orders"), "api-orders") as store:
            opened_doors = doors(
                settings,
                DoorAdapters(
                    bus=bus, store=store, books=PgBooks(store, clock), cache=cache, clock=clock, ids=Ids(clock)
                ),
                stop,
            )
            try:
                yield opened_doors
            finally:
                await opened_doors.close()
    finally:
        await cache.close()


@contextlib.asynccontextmanager
async def open_operators(
    settings: OrderSettings, stop: asyncio.Event
) -> AsyncIterator[Callable[[Callable[..., Any]], list[APIRouter]]]:
    """What the door `ops` includes, on PostgreSQL."""
    del stop  # nothing runs beside the routes
    async with opened_store(settings.infra.dsn("orders"), "api-ops-orders", connections_max=2) as store:
        yield OperatorDoors(PgWatch(store), PgBreaks(store)).routers


@contextlib.asynccontextmanager
async def opened(settings: OrderSettings, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The worker on PostgreSQL and Kafka."""
    del stop  # every part is given it again when it runs
    clock, dsn = SystemClock(), settings.infra.dsn("orders")
    source = engine(dsn, f"{NAME}-letters", connections_max=2)
    try:
        async with opened_store(dsn, NAME) as store:
            outside = WorkerAdapters(
                bus=KafkaBus(settings.infra.bootstrap, NAME),
                store=store,
                watch=PgWatch(store),
                books=PgBooks(store, clock),
                breaks=PgBreaks(store),
                letters=PgLetters(source, clock),
                clock=clock,
                ids=Ids(clock),
                once=lambda name, part: leased(dsn, f"{NAME}-{name}", part),
            )
            yield await worker(settings, outside)
    finally:
        await source.dispose()
