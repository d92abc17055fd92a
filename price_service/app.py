"""What the price service is made of: the only place where it is wired.

Two processes use it: the worker, which stores what comes from the venue, and the api, which opens the doors to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI

from infra.bus import Bus, Producer
from infra.bus_kafka import KafkaBus
from infra.cache import Cache, RedisCache
from infra.clock import Clock, Ids, SystemClock
from infra.contracts import PRICES
from infra.db import engine, leased
from infra.direct import Handlers, Quick
from infra.expiry import Expiries
from infra.mailbox import Mailbox, RedisMailbox
from infra.mailbox_memory import MemoryMailbox
from infra.process import Part, Ready, Service
from infra.rate import rate
from infra.settings import Infra
from infra.worker import Worker
from price_service import routes
from price_service.gaps import routes as gap_routes
from price_service.gaps.closer import GapCloser
from price_service.gaps.ports import Resender
from price_service.gaps.resend_http import HttpResender
from price_service.history.history_pg import PgHistory
from price_service.history.ports import HistoryStore
from price_service.history.routes import History
from price_service.ingest.listings import ListingsKeeper
from price_service.ingest.mirror import Mirror
from price_service.ingest.ports import TickStore
from price_service.ingest.prices import GROUP, TRANSIENT, Ingest
from price_service.ingest.ticks_pg import PgTicks
from price_service.live.books import Books
from price_service.live.elsewhere import AllStreams
from price_service.live.every_streams import EveryStreams, Limits
from price_service.live.fetching import Fetches, Nobody, VenueQuotes
from price_service.live.following import Following
from price_service.live.hub import Hub
from price_service.live.lanes import Joinable
from price_service.live.open_streams import OpenStreams
from price_service.live.ports import Snapshots
from price_service.live.quote_routes import Quotes
from price_service.live.resume import Resume
from price_service.live.socket_messages import Channel
from price_service.live.stream_routes import Streams
from price_service.live.ticks_since import MemoryTicksSince, TicksSince
from price_service.live.ticks_since_pg import PgTicksSince
from price_service.live.traded import Traded
from price_service.live.venue_http import HttpVenueQuotes
from price_service.live.ws_routes import Sockets
from price_service.rollups.ports import RetentionStore, RollupStore
from price_service.rollups.retention import Retention
from price_service.rollups.retention_pg import PgRetention
from price_service.rollups.rollups import Rollups
from price_service.rollups.rollups_pg import PgRollups
from price_service.seed.ports import SeedStore
from price_service.seed.seed import Seeding
from price_service.seed.seed_pg import PgSeed
from price_service.settings import Settings
from price_service.store.days_pg import PgSnapshots
from price_service.store.memory import MemoryPrices

NAME = "price-service"
# What is read at once when there is much to catch up with, so that one transaction is made while another is stored.
TRANSACTIONS_AHEAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAdapters:
    """The outside of the worker, real or in memory; closed by who made it. Without a resender gaps stay open; the
    twin of the store needs no roll-ups and no upkeep."""

    bus: Bus
    producer: Producer
    store: TickStore
    cache: Cache
    resender: Resender | None = None
    rollups: RollupStore | None = None
    upkeep: Mapping[str, Part] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorAdapters:
    """The outside of the doors, real or in memory; closed by who made it."""

    bus: Bus
    history: HistoryStore
    snapshots: Snapshots
    cache: Cache
    clock: Clock
    venue: VenueQuotes = field(default_factory=Nobody)
    ticks: TicksSince = field(default_factory=lambda: MemoryTicksSince(MemoryPrices()))
    mailbox: Mailbox = field(default_factory=MemoryMailbox)


def doors_in_memory(
    bus: Bus, store: MemoryPrices, cache: Cache, clock: Clock, venue: VenueQuotes | None = None
) -> DoorAdapters:
    """Everything from one twin of the store."""
    return DoorAdapters(
        bus=bus,
        history=store,
        snapshots=store,
        cache=cache,
        clock=clock,
        venue=venue or Nobody(),
        ticks=MemoryTicksSince(store),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the api gets: routes, and the parts that must run and be ready for them to work."""

    quotes: Quotes
    following: Following
    history: History
    parts: Mapping[str, Part]
    ready: Mapping[str, Ready]

    @property
    def streams(self) -> Streams:
        return self.following.streams

    def routers(self, principal: Callable[..., Any]) -> list[APIRouter]:
        return routes.routers(self.quotes, self.following, self.history, principal)

    @property
    def direct(self) -> Handlers:
        answered = routes.handler(self.quotes, self.history)
        return {("GET", "/stockPrices"): answered, ("HEAD", "/stockPrices"): answered}

    @property
    def quick(self) -> Sequence[Quick]:
        return [self.quotes.latest]


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
            messages_max=self._settings.prices_batch_messages_max * TRANSACTIONS_AHEAD,
            transient=TRANSIENT,
            ahead=True,
        )
        self._subscribed = True
        try:
            await worker.run(stop)
        finally:
            self._subscribed = False


def assemble(settings: Settings, outside: WorkerAdapters) -> Service:
    """The worker."""
    mirror = Mirror(outside.cache, settings.prices_cache_ms)
    ingest = Ingest(outside.store, outside.producer, mirror, settings.prices_batch_messages_max)
    consuming = Consuming(settings, outside, ingest)
    listings = ListingsKeeper(outside.bus, outside.store)
    app = FastAPI(title=NAME, docs_url=None, redoc_url=None, openapi_url=None)
    parts: dict[str, Part] = {"ingest": consuming.run, "listings": listings.run, "cache": mirror.run}
    if outside.resender is not None:
        wait_s, asks_max = settings.gaps_wait_ms / 1000, settings.gaps_requests_max
        gaps = GapCloser(ingest, outside.resender, outside.clock, wait_s, asks_max)
        app.include_router(gap_routes.routes(gaps.shown))
        parts["gaps"] = gaps.run
    if outside.rollups is not None:
        parts["rollups"] = Rollups(outside.rollups, ingest.partitions, settings.prices_rollup_ms).run
    parts |= outside.upkeep
    return Service(NAME, app, parts=parts, ready={"ingest": consuming.ready})


def assemble_doors(settings: Settings, outside: DoorAdapters, stop: asyncio.Event) -> Doors:
    """The part of the api that serves prices. `stop` ends its streams."""
    hub = Hub(
        outside.bus,
        outside.cache,
        outside.snapshots,
        outside.clock,
        settings.prices_flush_ms,
        settings.prices_stale_after_ms,
        unsent_bytes_max=settings.prices_unsent_bytes_max,
        stuck_s=settings.prices_stuck_ms / 1000,
    )
    following = followed(settings, outside, hub, stop)
    fetches = Fetches(
        outside.venue, hub.table, outside.clock, settings.prices_fetch_every_ms, settings.prices_fetch_wait_ms
    )
    limit = rate(settings.prices_reads_per_s, settings.prices_reads_burst_max)
    return Doors(
        quotes=Quotes(hub.table, hub.ready, fetches, limit, outside.clock, settings.prices_stream_symbols_max),
        following=following,
        history=History(outside.history, outside.clock, settings.prices_histories_max),
        parts={
            "price_fetches": fetches.run,
            "price_hub": hub.run,
            "price_listings": hub.follow_listings,
            **following.parts,
        },
        ready={"price_hub": hub.ready},
    )


def followed(settings: Settings, outside: DoorAdapters, hub: Hub, stop: asyncio.Event) -> Following:
    """The streams of one process: conflated ones, those of every tick, and their changes."""
    clock, ids, symbols_max = outside.clock, Ids(outside.clock), settings.prices_stream_symbols_max
    registry = OpenStreams(ids, Expiries(outside.clock), settings.prices_streams_max, symbols_max)
    limits = Limits(
        symbols_max=settings.prices_every_symbols_max,
        queue_ticks_max=settings.prices_every_ticks_max,
        queue_bytes_max=settings.prices_every_bytes_max,
    )
    resume = Resume(outside.ticks, outside.clock, settings.prices_replay_ticks_max)
    traded = Traded(hub)
    books = Books(
        outside.bus, clock, lambda: hub.table.is_open, settings.prices_flush_ms, settings.prices_stale_after_ms
    )
    channels: dict[Channel, Joinable] = {"quotes": hub.followers, "books": books.followers}
    return Following(
        traded=traded,
        open=registry,
        streams=Streams(hub, symbols_max, ids, stop, registry),
        every=EveryStreams(hub, registry, resume, limits, clock, stop),
        everywhere=AllStreams(registry, outside.mailbox),
        books=books,
        book_streams=Streams(hub, symbols_max, ids, stop, registry, books.followers, "books"),
        sockets=Sockets(channels, traded, registry, clock, symbols_max, settings.prices_socket_messages_max),
        symbols_max=symbols_max,
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
        resender = resending(infra)
        stack.push_async_callback(resender.close)
        store = PgTicks(source)
        beside = engine(infra.dsn("prices"), f"{NAME}-upkeep", connections_max=3)
        stack.push_async_callback(beside.dispose)
        outside = WorkerAdapters(
            bus=bus,
            producer=producer,
            store=store,
            cache=cache,
            resender=resender,
            rollups=PgRollups(beside),
            upkeep=upkeep(settings, infra.dsn("prices"), PgRetention(beside), PgSeed(beside)),
        )
        yield assemble(settings, outside)


def upkeep(settings: Settings, dsn: str, kept: RetentionStore, seeds: SeedStore) -> dict[str, Part]:
    """What one worker does for all, on connections of its own."""
    kept_days = {"ticks": settings.prices_ticks_kept_days, "bars_1m": settings.prices_minutes_kept_days}
    parts = {"retention": Retention(kept, kept_days, settings.prices_compress).run}
    if settings.prices_seed_history:
        parts["seed"] = Seeding(seeds).run
    return {name: leased(dsn, f"{NAME}-{name}", part) for name, part in parts.items()}


def quoting(infra: Infra) -> HttpVenueQuotes:
    """What asks the gateway for stale and missing quotes; the caller closes it."""
    return HttpVenueQuotes(infra.gateway_url)


def resending(infra: Infra) -> HttpResender:
    """Re-requests of missing ticks, at the gateway of this deployment."""
    return HttpResender(infra.gateway_url)


@contextlib.asynccontextmanager
async def open_doors(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Doors]:
    """The doors on real servers, for a process of the api. Nothing is contacted before its parts run."""
    infra = settings.infra
    async with contextlib.AsyncExitStack() as stack:
        cache = RedisCache(infra.redis_url)
        stack.push_async_callback(cache.close)
        mailbox = RedisMailbox(infra.redis_url)
        stack.push_async_callback(mailbox.close)
        venue = quoting(infra)
        stack.push_async_callback(venue.close)
        source = engine(infra.dsn("prices"), f"{NAME}-doors", connections_max=4)
        stack.push_async_callback(source.dispose)
        outside = DoorAdapters(
            bus=KafkaBus(infra.bootstrap, f"{NAME}-doors"),
            history=PgHistory(source),
            snapshots=PgSnapshots(source),
            cache=cache,
            clock=SystemClock(),
            venue=venue,
            ticks=PgTicksSince(source),
            mailbox=mailbox,
        )
        yield assemble_doors(settings, outside, stop)
