"""What the exchange gateway is made of: the only place where it is wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi import FastAPI

from exchange_gateway.feed.feed import Feed, FeedSource
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.orders.deliver import Delivery, Limits
from exchange_gateway.orders.forward import GROUP, TRANSIENT, Forward
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.venue_http import HttpVenue
from exchange_gateway.reports import webhooks
from exchange_gateway.reports.drop_copy import DropCopy, DropCopySource
from exchange_gateway.reports.drop_copy_ws import WsDropCopySource
from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.reports.signature import key_of
from exchange_gateway.settings import Settings
from exchange_gateway.stream import Follower
from exchange_gateway.venue import VenueAway
from infra.bus import Bus, Producer
from infra.bus_kafka import KafkaBus
from infra.clock import Clock, Ids, SystemClock
from infra.clock import wait as wait_unless
from infra.contracts import ORDERS
from infra.db import Checkpoints, PgCheckpoints, engine, leased
from infra.http_client import http_client
from infra.process import Part, Service
from infra.worker import Worker

NAME = "exchange-gateway"
# The feed carries thousands of records per second: waiting a little fills its batches.
FEED_LINGER_MS = 5

Once = Callable[[str, Part], Part]


def _alone(name: str, part: Part) -> Part:
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The outside of the gateway, real or in memory. `once` makes a part run in one process only; the producers are
    closed by who made them, after the service has ended."""

    bus: Bus
    status_producer: Producer
    price_producer: Producer
    venue: Venue
    feed: FeedSource
    drop_copy: DropCopySource
    checkpoints: Checkpoints
    clock: Clock
    ids: Ids
    once: Once = _alone


def assemble(settings: Settings, outside: Adapters) -> Service:
    publisher = StatusPublisher(outside.status_producer, outside.clock)
    feed = Follower(
        "feed",
        Feed(outside.feed, outside.price_producer),
        outside.checkpoints,
        outside.clock,
        outside.ids.random,
        settings.feed_in_flight_max,
    )
    drop_copy = Follower(
        "drop_copy", DropCopy(outside.drop_copy, publisher), outside.checkpoints, outside.clock, outside.ids.random
    )
    orders = Orders(settings, outside, publisher)
    app = FastAPI(title=NAME, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(webhooks.routes(publisher, key_of(settings.secrets.webhook_secret), outside.clock))
    return Service(
        NAME,
        app,
        parts={
            "orders": orders.run,
            "feed": outside.once("feed", feed.run),
            "drop_copy": outside.once("drop_copy", drop_copy.run),
        },
        ready={"orders": orders.ready, "feed": feed.ready, "drop_copy": drop_copy.ready},
    )


class Orders:
    """The part that consumes commands. Ready while it is subscribed."""

    def __init__(self, settings: Settings, outside: Adapters, publisher: StatusPublisher) -> None:
        self._settings = settings
        self._outside = outside
        self._publisher = publisher
        self._subscribed = False

    def ready(self) -> bool:
        return self._subscribed

    async def run(self, stop: asyncio.Event) -> None:
        async def pause(seconds: float) -> None:
            await wait_unless(stop, seconds)
            if stop.is_set():
                raise VenueAway("the process stops; the command comes again")

        settings, outside = self._settings, self._outside
        limits = Limits(settings.venue_retry_s, settings.venue_ask_s, settings.venue_sends_max)
        delivery = Delivery(outside.venue, outside.clock, outside.ids.random, limits, pause)
        worker = Worker(
            GROUP,
            await outside.bus.subscribe([ORDERS], GROUP),
            outside.status_producer,
            Forward(delivery, self._publisher, outside.clock),
            messages_max=settings.commands_max,
            transient=TRANSIENT,
        )
        self._subscribed = True
        try:
            await worker.run(stop)
        finally:
            self._subscribed = False


@contextlib.asynccontextmanager
async def connected(
    settings: Settings, bus: Bus, checkpoints: Checkpoints, clock: Clock, ids: Ids, once: Once = _alone
) -> AsyncIterator[Service]:
    """The gateway on any bus, towards a venue on the network. Nothing is contacted before its parts run."""
    infra, key = settings.infra, settings.secrets.venue_api_key
    async with contextlib.AsyncExitStack() as stack:
        status_producer = bus.producer()
        stack.push_async_callback(status_producer.close)
        price_producer = bus.producer(FEED_LINGER_MS)
        stack.push_async_callback(price_producer.close)
        client = await stack.enter_async_context(
            http_client(infra.venue_url, key, settings.venue_timeout_s, settings.venue_sends_max)
        )
        outside = Adapters(
            bus=bus,
            status_producer=status_producer,
            price_producer=price_producer,
            venue=HttpVenue(client),
            feed=WsFeedSource(infra.venue_url, key),
            drop_copy=WsDropCopySource(infra.venue_url, key),
            checkpoints=checkpoints,
            clock=clock,
            ids=ids,
            once=once,
        )
        yield assemble(settings, outside)


@contextlib.asynccontextmanager
async def opened(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The gateway on real servers."""
    del stop  # every part is given it again when it runs
    infra, clock = settings.infra, SystemClock()
    dsn = infra.dsn("orders")
    source = engine(dsn, NAME, connections_max=2)
    try:
        bus = KafkaBus(infra.bootstrap, NAME)
        async with connected(
            settings, bus, PgCheckpoints(source), clock, Ids(clock), lambda name, part: leased(dsn, name, part)
        ) as service:
            yield service
    finally:
        await source.dispose()
