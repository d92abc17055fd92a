"""One world per seed: all our processes on the twins, the exchange in the box, and everything that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from exchange_gateway import app as gateway
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.settings import Settings as GatewaySettings
from exchange_gateway.simulator.inprocess import InProcessVenue
from exchange_gateway.venue import VenueReport
from infra.bus_memory import MemoryBus
from infra.clock import Ids
from infra.contracts import (
    INSTRUMENTS,
    MARKET_STATUS,
    PRICES,
    TOPICS,
    Instrument,
    MarketStatus,
    Quote,
    decode,
    encode,
)
from infra.db import MemoryCheckpoints
from infra.dlq.letters_memory import MemoryLetters
from infra.outbox import record_headers
from infra.process import Part, Ready
from infra.settings import load
from infra.switches import MemorySwitches
from order_service import app as orders
from order_service.settings import OrderSettings
from order_service.store.funding import Funds
from order_service.store.memory import MemoryOrders
from order_service.store.memory_books import MemoryBooks
from order_service.store.memory_watch import MemoryBreaks, MemoryWatch
from outbox_relay.relay import Relay
from outbox_relay.source_memory import MemoryReader
from tests.simulation.nodes import Booted, Life, Node
from tests.simulation.outside import Flaky, FlakyCache, FlakyReader, FlakyStore, SilentFeed, Weather
from tests.simulation.virtual import VirtualClock, VirtualLoop
from tests.simulation.workload import CASH_MICROS, OPENING_MICROS, SHARES, TICK_MICROS

T = TypeVar("T")
ACCOUNTS = (1, 2, 3, 4, 5, 6)
PARTITIONS = 3
SPREAD_TICKS = 2
# How bad the weather is, and how long the gateway asks in place before it leaves a question to the chase.
STRENGTHS = (0.3, 1.0, 3.0)
# How many worlds have two of our processes where more than one may run; they share no lease, so all is done twice.
TWO_OF_EACH = 0.2
ASK_S = (0.2, 2.0, 8.0)
ENVIRON = {
    "XGW_SNAPSHOT_INTERVAL_S": "12",
    "XGW_JWT_SECRET": "0" * 64,
    "XGW_VENUE_API_KEY": "simulated",
    "XGW_WEBHOOK_SECRET": "whsec_c2ltdWxhdGVk",
}


@dataclass(slots=True)
class Market:
    """Prices that walk, told to the venue and to the bus, as the feed would."""

    random: Random
    micros: dict[str, int] = field(default_factory=lambda: dict(OPENING_MICROS))
    told: int = 0

    def step(self) -> None:
        for symbol in self.micros:
            self.micros[symbol] += self.random.choice((-4, -2, -1, 0, 0, 1, 2, 4)) * TICK_MICROS


class World:
    """Wired here and nowhere else. Processes are started by `start`; what goes wrong is up to `faults`."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.random = Random(seed)
        self.clock = VirtualClock(loop)
        self.weather = Weather(Random(self.random.getrandbits(64)), self.random.choice(STRENGTHS))
        self.ids = Ids(self.clock, self.random.getrandbits(64))
        self.bus = MemoryBus(
            self.clock, [replace(topic, partitions=min(topic.partitions, PARTITIONS)) for topic in TOPICS]
        )
        self.producer = self.bus.producer()
        self.store = MemoryOrders(ACCOUNTS, Funds(CASH_MICROS, dict.fromkeys(OPENING_MICROS, SHARES)))
        self.books = MemoryBooks(self.store, self.clock)
        self.outbox = MemoryReader(self.store)
        self.checkpoints = MemoryCheckpoints()
        self.letters = MemoryLetters(self.clock)
        self.cache = FlakyCache(self.clock, self.weather)
        self.switches = MemorySwitches(self.producer, self.clock, self.ids)
        self.market = Market(Random(self.random.getrandbits(64)))
        instruments = [Instrument(symbol, symbol, TICK_MICROS, 1, 1, p) for symbol, p in OPENING_MICROS.items()]
        self.instruments = instruments
        self.venue = InProcessVenue(
            instruments,
            self.clock,
            asyncio.sleep,
            Random(self.random.getrandbits(64)),
            webhook=self._webhook,
            latency_s_max=0.02,
        )
        self.remote = RemoteVenue(self.venue, loop)
        asking = {"XGW_VENUE_ASK_S": str(self.random.choice(ASK_S))}
        self.gateway_settings = load(GatewaySettings, ENVIRON | asking)
        self.order_settings = load(OrderSettings, ENVIRON)
        boots = {"api": self._api, "relay": self._relay, "gateway": self._gateway, "worker": self._worker}
        if self.random.random() < TWO_OF_EACH:
            boots |= {"api-2": self._api, "gateway-2": self._gateway, "worker-2": self._worker}
        self.nodes = {
            name: Node(name, boot, loop, self.bus, self.clock, self.weather, Random(self.random.getrandbits(64)))
            for name, boot in boots.items()
        }

    # -- the market --------------------------------------------------------------------------------------------------

    def tell_quotes(self) -> None:
        market = self.market
        market.told += 1
        for symbol, micros in market.micros.items():
            bid, ask = micros - SPREAD_TICKS * TICK_MICROS, micros + SPREAD_TICKS * TICK_MICROS
            self.venue.quote(symbol, bid, 300, ask, 300)
            quote = Quote(symbol, self.session, market.told, self.clock.now_ns(), bid, 300, ask, 300)
            self._tell(PRICES, symbol, encode(quote))

    def tell_session(self) -> None:
        """After the venue opened a session: what the feed says on a new connection."""
        for one in self.instruments:
            self._tell(INSTRUMENTS, one.symbol, encode(one))
        self._tell(MARKET_STATUS, "*", encode(MarketStatus("open", self.session, self.clock.now_ns())))

    def close_session(self) -> None:
        """The session ends and the next one opens."""
        self._tell(MARKET_STATUS, "*", encode(MarketStatus("close", self.session, self.clock.now_ns())))
        self.venue.next_session()
        self.tell_session()

    @property
    def session(self) -> int:
        return self.venue.desk.venue.session

    def _tell(self, topic: str, key: str, value: bytes) -> None:
        self.bus.append(topic, key.encode(), value, record_headers("market", "market", ""))

    # -- the processes -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()

    async def ask(self, request: Callable[[Any], Awaitable[Any]], answer_s: float) -> Any | None:
        """The clients' door."""
        doors = [node for name, node in self.nodes.items() if name.startswith("api") and node.ready]
        return await self.random.choice(doors).call(request, answer_s) if doors else None

    async def _api(self, life: Life) -> Booted:
        outside = orders.DoorAdapters(
            bus=life.bus,
            store=FlakyStore(self.store, life.weather),
            books=Flaky(self.books, life.weather),
            cache=self.cache,
            clock=life.clock,
            ids=life.ids,
        )
        doors = orders.doors(self.order_settings, outside, asyncio.Event())
        return _booted(doors.parts, doors.ready, {"order-stream"}, doors.desk)

    async def _relay(self, life: Life) -> Booted:
        relay = Relay(life.bus, FlakyReader(self.outbox, life.weather).open, life.clock)
        return Booted({"relay": relay.run}, lambda: relay.streaming)

    async def _worker(self, life: Life) -> Booted:
        outside = orders.WorkerAdapters(
            bus=life.bus,
            store=FlakyStore(self.store, life.weather),
            watch=Flaky(MemoryWatch(self.store), life.weather),
            books=Flaky(self.books, life.weather),
            breaks=Flaky(MemoryBreaks(self.store), life.weather),
            letters=Flaky(self.letters, life.weather),
            clock=life.clock,
            ids=life.ids,
        )
        service = await orders.worker(self.order_settings, outside)
        return _booted(service.parts, service.ready)

    async def _gateway(self, life: Life) -> Booted:
        producer = life.bus.producer()
        outside = gateway.Adapters(
            bus=life.bus,
            status_producer=producer,
            price_producer=producer,
            venue=self.remote,
            books=self.remote,
            feed=SilentFeed(),
            drop_copy=self.venue,
            checkpoints=self.checkpoints,
            clock=life.clock,
            ids=life.ids,
            parked=self.letters,
        )
        service = gateway.assemble(self.gateway_settings, outside)
        return _booted(service.parts, service.ready, {"feed"}, StatusPublisher(producer, life.clock))

    async def _webhook(self, body: bytes) -> bool:
        """What the gateway's webhook route does once the signature fits; not taken while the gateway is away."""
        report: VenueReport = decode(VenueReport, body)

        async def take(face: Any) -> bool:
            await face.report(report, "webhook")
            return True

        node = self.nodes["gateway"]
        if node.booted is None or node.process is None or node.process.state != "running":
            return False
        return bool(await node.call(take, 5.0))


def _booted(
    parts: Mapping[str, Part], ready: Mapping[str, Ready], without: Collection[str] = (), face: object = None
) -> Booted:
    """What a service is made of, without the parts that this world has no use for."""
    asked = [is_ready for name, is_ready in ready.items() if name not in without]
    kept = {name: part for name, part in parts.items() if name not in without}
    return Booted(kept, lambda: all(is_ready() for is_ready in asked), face)


class RemoteVenue:
    """The venue as a process of its own: a request that has left goes on whatever becomes of its sender."""

    def __init__(self, venue: InProcessVenue, loop: VirtualLoop) -> None:
        self._venue = venue
        self._loop = loop

    async def submit(self, order: Any) -> Answer:
        return await self._there(self._venue.submit(order))

    async def submit_batch(self, orders: Sequence[Any]) -> list[Answer]:
        return await self._there(self._venue.submit_batch(orders))

    async def cancel(self, request: Any) -> Answer:
        return await self._there(self._venue.cancel(request))

    async def replace(self, request: Any) -> Answer:
        return await self._there(self._venue.replace(request))

    async def query(self, cl_ord_id: str) -> Answer:
        return await self._there(self._venue.query(cl_ord_id))

    async def orders(self, after: int, limit: int) -> Any:
        return await self._there(self._venue.orders(after, limit))

    async def executions(self, after: int, limit: int) -> Any:
        return await self._there(self._venue.executions(after, limit))

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._loop.create_task(work, context=self._loop.outside)
