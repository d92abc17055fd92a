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
from infra.clock import Clock, Ids, SystemClock
from infra.contracts import ORDER_STATUS
from infra.db import TRANSIENT
from infra.process import Part, Ready, Service
from infra.worker import Worker
from order_service.history.routes import routes as history_routes
from order_service.placing.desk import Desk
from order_service.placing.instruments import Catalogue
from order_service.placing.routes import routes as placing_routes
from order_service.reports.order_status import GROUP, NotYetVisibleError, OrderStatus
from order_service.settings import OrderSettings
from order_service.store.orders_pg import opened as opened_store
from order_service.store.ports import OrderStore
from order_service.streams.fanout import Fanout
from order_service.streams.routes import routes as stream_routes

NAME = "order_service"


@dataclass(frozen=True, slots=True)
class OrderDoors:
    """The order routes, what must run beside them in the same process, and when they can do their work."""

    store: OrderStore
    desk: Desk
    catalogue: Catalogue
    fanout: Fanout
    stop: asyncio.Event

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"order-desk": self.desk.run, "instruments": self.catalogue.run, "order-stream": self.fanout.run}

    @property
    def ready(self) -> Mapping[str, Ready]:
        return {"instruments": self.catalogue.ready, "order-stream": self.fanout.ready}

    def routers(self, principal: Callable[..., Any]) -> list[APIRouter]:
        """`principal` is a FastAPI dependency that gives an infra.principal.Principal."""
        return [
            placing_routes(self.desk, principal),
            stream_routes(self.store, self.fanout, principal, self.stop),  # before /orders/{id}
            history_routes(self.store, principal),
        ]


def doors(
    settings: OrderSettings, bus: Bus, store: OrderStore, clock: Clock, ids: Ids, stop: asyncio.Event
) -> OrderDoors:
    catalogue = Catalogue(bus)
    desk = Desk(
        store,
        lambda: catalogue.listings,
        settings.limits,
        clock,
        ids,
        queue_max=settings.order_queue_max,
        batch_max=settings.order_batch_max,
    )
    return OrderDoors(store, desk, catalogue, Fanout(bus, settings.order_stream_queue_max), stop)


async def worker(settings: OrderSettings, bus: Bus, store: OrderStore, clock: Clock, ids: Ids) -> Service:
    """Applies what the exchange and the gateway report."""
    producer = bus.producer()
    reports = Worker(
        name=GROUP,
        subscription=await bus.subscribe([ORDER_STATUS], GROUP),
        producer=producer,
        handler=OrderStatus(store, clock, ids).handle,
        messages_max=settings.order_reports_max,
        transient=(*TRANSIENT, BusError, NotYetVisibleError),
    )

    consuming = asyncio.Event()

    async def run(stop: asyncio.Event) -> None:
        consuming.set()
        try:
            await reports.run(stop)
        finally:
            consuming.clear()
            await producer.close()

    return Service(NAME, FastAPI(title=NAME), {ORDER_STATUS: run}, {ORDER_STATUS: consuming.is_set})


@contextlib.asynccontextmanager
async def open_doors(settings: OrderSettings, stop: asyncio.Event) -> AsyncIterator[OrderDoors]:
    """The doors on PostgreSQL and Kafka."""
    clock = SystemClock()
    bus = KafkaBus(settings.infra.bootstrap, "api-orders")
    async with opened_store(settings.infra.dsn("orders"), "api-orders") as store:
        yield doors(settings, bus, store, clock, Ids(clock), stop)


@contextlib.asynccontextmanager
async def opened(settings: OrderSettings, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The worker on PostgreSQL and Kafka."""
    clock = SystemClock()
    bus = KafkaBus(settings.infra.bootstrap, NAME)
    async with opened_store(settings.infra.dsn("orders"), NAME) as store:
        yield await worker(settings, bus, store, clock, Ids(clock))
