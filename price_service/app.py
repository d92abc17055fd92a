"""What the price service is made of: the only place where it is wired.

Two processes use it: the worker, which stores what comes from the venue, and the api, which opens the doors to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI

from infra.bus import Bus, Producer
from infra.bus_kafka import KafkaBus
from infra.cache import Cache, RedisCache
from infra.clock import Clock, SystemClock
from infra.contracts import PRICES
from infra.db import engine
from infra.direct import Handlers
from infra.process import Part, Ready, Service
from infra.worker import Worker
from price_service import routes
from price_service.history.history_pg import PgHistory
from price_service.history.ports import HistoryStore
from price_service.history.routes import History
from price_service.ingest.listings import ListingsKeeper
from price_service.ingest.mirror import Mirror
from price_service.ingest.ports import TickStore
from price_service.ingest.prices import GROUP, TRANSIENT, Ingest
from price_service.ingest.ticks_pg import PgTicks
from price_service.live.hub import Hub
from price_service.live.ports import Snapshots
from price_service.live.routes import Live
from price_service.settings import Settings
from price_service.store.days_pg import PgSnapshots

NAME = "price-service"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAdapters:
    """The outside of the worker, real or in memory; closed by who made it."""

    bus: Bus
    producer: Producer
    store: TickStore
    cache: Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorAdapters:
    """The outside of the doors, real or in memory; closed by who made it."""

    bus: Bus
    history: HistoryStore
    snapshots: Snapshots
    cache: Cache
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the api gets: routes, and the parts that must run and be ready for them to work."""

    live: Live
    history: History
    parts: Mapping[str, Part]
    ready: Mapping[str, Ready]
    direct: Handlers = field(default_factory=dict)

    def routers(self, principal: Callable[..., Any]) -> list[APIRouter]:
        return routes.routers(self.live, self.history, principal)


class Consuming:
    """The part that consumes `prices`. Ready while it is subscribed."""

    def __init__(self, settings: Settings, outside: WorkerAdapters, ingest: Ingest) -> None:
        self._settings = settings
        self._outside = outside
        self._ingest = ingest
        self._subscribed = False

    def ready(self) -> bool:
        return self._subscribed

    async def run(self, stop: asyncio.Event) -> None:
        worker = Worker(
            GROUP,
            await self._outside.bus.subscribe([PRICES], GROUP, self._ingest.assigned),
            self._outside.producer,
            self._ingest,
            messages_max=self._settings.prices_batch_messages_max,
            transient=TRANSIENT,
        )
        self._subscribed = True
        try:
            await worker.run(stop)
        finally:
            self._subscribed = False


def assemble(settings: Settings, outside: WorkerAdapters) -> Service:
    """The worker."""
    mirror = Mirror(outside.cache, settings.prices_cache_ms)
    consuming = Consuming(settings, outside, Ingest(outside.store, outside.producer, mirror))
    listings = ListingsKeeper(outside.bus, outside.store)
    return Service(
        NAME,
        FastAPI(title=NAME, docs_url=None, redoc_url=None, openapi_url=None),
        parts={"ingest": consuming.run, "listings": listings.run, "cache": mirror.run},
        ready={"ingest": consuming.ready},
    )


def assemble_doors(settings: Settings, outside: DoorAdapters, stop: asyncio.Event) -> Doors:
    """The part of the api that serves prices. `stop` ends its streams."""
    hub = Hub(
        outside.bus,
        outside.cache,
        outside.snapshots,
        outside.clock,
        settings.prices_flush_ms,
        settings.prices_stale_after_ms,
    )
    return Doors(
        live=Live(hub, settings.prices_stream_symbols_max, stop),
        history=History(outside.history, outside.clock),
        parts={"price_hub": hub.run, "price_listings": hub.follow_listings},
        ready={"price_hub": hub.ready},
    )


@contextlib.asynccontextmanager
async def opened(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The worker on real servers. Nothing is contacted before its parts run."""
    infra = settings.infra
    bus = KafkaBus(infra.bootstrap, NAME)
    async with contextlib.AsyncExitStack() as stack:
        producer = bus.producer()
        stack.push_async_callback(producer.close)
        cache = RedisCache(infra.redis_url)
        stack.push_async_callback(cache.close)
        source = engine(infra.dsn("prices"), NAME, connections_max=3)
        stack.push_async_callback(source.dispose)
        yield assemble(settings, WorkerAdapters(bus=bus, producer=producer, store=PgTicks(source), cache=cache))


@contextlib.asynccontextmanager
async def open_doors(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Doors]:
    """The doors on real servers, for a process of the api. Nothing is contacted before its parts run."""
    infra = settings.infra
    async with contextlib.AsyncExitStack() as stack:
        cache = RedisCache(infra.redis_url)
        stack.push_async_callback(cache.close)
        source = engine(infra.dsn("prices"), f"{NAME}-doors", connections_max=4)
        stack.push_async_callback(source.dispose)
        outside = DoorAdapters(
            bus=KafkaBus(infra.bootstrap, f"{NAME}-doors"),
            history=PgHistory(source),
            snapshots=PgSnapshots(source),
            cache=cache,
            clock=SystemClock(),
        )
        yield assemble_doors(settings, outside, stop)
