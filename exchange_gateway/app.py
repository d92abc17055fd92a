"""What the exchange gateway is made of: the only place where it is wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi import FastAPI

from exchange_gateway.feed import routes as market_routes
from exchange_gateway.feed.feed import Feed, FeedSource
from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.feed.market_http import HttpMarketData
from exchange_gateway.feed.on_request import MarketData, OnRequest
from exchange_gateway.orders.batching import Batching
from exchange_gateway.orders.deliver import Delivery, Limits
from exchange_gateway.orders.forward import Forward
from exchange_gateway.orders.guarded import Guarded
from exchange_gateway.orders.parked import Parked
from exchange_gateway.orders.patience import Waiting
from exchange_gateway.orders.ports import ParkedOrders, Venue
from exchange_gateway.orders.pump import Pump
from exchange_gateway.orders.venue_http import HttpVenue, venue_transport
from exchange_gateway.reconcile.market import Market
from exchange_gateway.reconcile.snapshot import Snapshots, VenueBooks
from exchange_gateway.reports import webhooks
from exchange_gateway.reports.drop_copy import DropCopy, DropCopySource
from exchange_gateway.reports.drop_copy_ws import WsDropCopySource
from exchange_gateway.reports.normalise import normalise
from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.reports.signature import key_of
from exchange_gateway.settings import Settings
from exchange_gateway.stream import Follower
from infra.bus import Bus, Producer
from infra.bus_kafka import KafkaBus
from infra.clock import Clock, Ids, SystemClock
from infra.clock import wait as wait_unless
from infra.contracts import Switch
from infra.db import Checkpoints, PgCheckpoints, engine, leased
from infra.dlq.letters_memory import MemoryLetters
from infra.dlq.letters_pg import PgLetters
from infra.process import Part, Service
from infra.switches import Switchboard

NAME = "exchange-gateway"
# The feed carries thousands of records per second: waiting a little fills its batches.
FEED_LINGER_MS = 5
LOOK_S = 0.05

Once = Callable[[str, Part], Part]


def _alone(name: str, part: Part) -> Part:
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The outside of the gateway, real or in memory. `once` makes a part run in one process only; the producers are
    closed by who made them, after the service has ended. Without `market_data` nothing can be asked for."""

    bus: Bus
    status_producer: Producer
    price_producer: Producer
    venue: Venue
    books: VenueBooks
    feed: FeedSource
    drop_copy: DropCopySource
    checkpoints: Checkpoints
    clock: Clock
    ids: Ids
    parked: ParkedOrders
    once: Once = _alone
    market_data: MarketData | None = None


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
    market = Market(outside.bus)
    snapshots = Snapshots(
        outside.books,
        outside.status_producer,
        market,
        normalise,
        outside.clock,
        outside.ids,
        settings.snapshot_interval_s,
    )
    board = Switchboard(outside.bus)
    orders = Orders(settings, outside, publisher, board, market, snapshots)
    app = FastAPI(title=NAME, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(webhooks.routes(publisher, webhook_keys(settings), outside.clock))
    if outside.market_data is not None:
        asked = OnRequest(
            outside.market_data, outside.price_producer, settings.feed_requests_max, 2 * settings.venue_timeout_s
        )
        app.include_router(market_routes.routes(asked))
    return Service(
        NAME,
        app,
        parts={
            "orders": orders.run,
            "switches": board.run,
            "market": market.follow,
            "feed": outside.once("feed", feed.run),
            "drop_copy": outside.once("drop_copy", drop_copy.run),
            "snapshot": outside.once("snapshot", snapshots.run),
        },
        ready={
            "orders": orders.ready,
            "switches": board.ready,
            "market": market.ready,
            "feed": feed.ready,
            "drop_copy": drop_copy.ready,
            "snapshot": snapshots.ready,
        },
    )


def webhook_keys(settings: Settings) -> list[bytes]:
    """The present key and the former ones that still count. Raises ValueError for one that is no key."""
    return [key_of(secret) for secret in (settings.secrets.webhook_secret, *settings.webhook_former_secrets.split())]


class Orders:
    """The part that consumes commands. Nothing is taken before the first snapshot of the venue is out and the kill
    switches and the session are known; it is ready from then on."""

    def __init__(
        self,
        settings: Settings,
        outside: Adapters,
        publisher: StatusPublisher,
        board: Switchboard,
        market: Market,
        snapshots: Snapshots,
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._publisher = publisher
        self._board = board
        self._market = market
        self._snapshots = snapshots
        self._taking = False

    def ready(self) -> bool:
        return self._taking

    async def run(self, stop: asyncio.Event) -> None:
        while not (self._board.ready() and self._market.ready() and self._snapshots.ready()):
            await wait_unless(stop, LOOK_S)
            if stop.is_set():
                return
        self._taking = True
        try:
            await self._pump(stop).run(stop)
        finally:
            self._taking = False

    def _strictest(self, symbol: str, account_id: int) -> Switch | None:
        return self._board.view.strictest(symbol, account_id)  # the view is replaced whenever a switch moves

    def _pump(self, stop: asyncio.Event) -> Pump:
        settings, outside = self._settings, self._outside
        random, clock = outside.ids.random, outside.clock
        venue = Guarded(outside.venue, clock)
        patience, parked = Waiting(stop, venue, random), Parked(outside.parked)
        delivery = Delivery(
            Batching(venue, settings.venue_sends_max),
            self._strictest,
            lambda: self._market.session,
            clock,
            random,
            Limits(settings.venue_retry_s, settings.venue_ask_s),
            patience.pause,
        )
        return Pump(
            outside.bus,
            outside.status_producer,
            Forward(delivery, self._publisher, clock, parked, patience),
            venue,
            clock,
            settings.commands_max,
            parked.load,
            patience.insist,
        )


@contextlib.asynccontextmanager
async def connected(
    settings: Settings,
    bus: Bus,
    checkpoints: Checkpoints,
    clock: Clock,
    ids: Ids,
    once: Once = _alone,
    parked: ParkedOrders | None = None,
) -> AsyncIterator[Service]:
    """The gateway on any bus, towards a venue on the network. Nothing is contacted before its parts run."""
    infra, key = settings.infra, settings.secrets.venue_api_key
    async with contextlib.AsyncExitStack() as stack:
        status_producer = bus.producer()
        stack.push_async_callback(status_producer.close)
        price_producer = bus.producer(FEED_LINGER_MS)
        stack.push_async_callback(price_producer.close)
        transport = await stack.enter_async_context(venue_transport(settings.venue_sends_max))
        venue = HttpVenue(transport, infra.venue_url, key, clock, settings.venue_timeout_s)
        # Connections of its own: whoever asks for prices never takes an order's.
        asking = await stack.enter_async_context(venue_transport(settings.feed_requests_max))
        outside = Adapters(
            bus=bus,
            status_producer=status_producer,
            price_producer=price_producer,
            venue=venue,
            books=venue,
            feed=WsFeedSource(infra.venue_url, key, settings.feed_depth),
            drop_copy=WsDropCopySource(infra.venue_url, key),
            checkpoints=checkpoints,
            clock=clock,
            ids=ids,
            parked=parked or MemoryLetters(clock),
            once=once,
            market_data=HttpMarketData(asking, infra.venue_url, key, settings.venue_timeout_s),
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
            settings,
            bus,
            PgCheckpoints(source),
            clock,
            Ids(clock),
            lambda name, part: leased(dsn, name, part),
            PgLetters(source, clock),
        ) as service:
            yield service
    finally:
        await source.dispose()
