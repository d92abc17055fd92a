"""A gateway on twins, and what stays when it is restarted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from exchange_gateway.app import Adapters, assemble
from exchange_gateway.feed.feed import FeedSource
from exchange_gateway.feed.on_request import MarketData
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import NewOrder
from exchange_gateway.settings import Settings
from exchange_gateway.venue import OrdersPage, VenueAway
from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import Clock, Ids, SystemClock
from infra.contracts import (
    ORDER_STATUS,
    Reason,
    Report,
    status_message,
)
from infra.db import MemoryCheckpoints
from infra.dlq.letters_memory import MemoryLetters
from infra.process import Service, run_parts
from infra.settings import load
from tests.unit.exchange_gateway.simulated import (
    API_KEY,
    JWT_SECRET,
    WEBHOOK_SECRET,
)
from tests.unit.exchange_gateway.words import read_all

SESSION = 1_700_000_000


def settings_of(**changes: str) -> Settings:
    told = {"venue_api_key": API_KEY, "webhook_secret": WEBHOOK_SECRET, "jwt_secret": JWT_SECRET} | changes
    return load(Settings, {f"XGW_{name.upper()}": value for name, value in told.items()})


class FrameList:
    """A feed source that has a list of frames and then stays open."""

    def __init__(self, *frames: bytes) -> None:
        self.all = frames
        self.asked: list[tuple[int | None, int | None]] = []

    async def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        self.asked.append((session, after))
        for frame in self.all:
            yield frame
        await asyncio.Event().wait()


class Twin(MemoryVenue):
    """The twin, which can be away, lose answers and questions, and notes what came."""

    def __init__(self, clock: Clock, quotes: dict[str, tuple[int, int]]) -> None:
        super().__init__(clock, quotes, SESSION)
        self.away = self.books_away = False
        self.lost: set[str] = set()
        self.refused = self.queries = self.duplicates = 0
        self.batches: list[int] = []

    async def submit(self, order: NewOrder) -> Answer:
        return (await self.submit_batch([order]))[0]

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        if self.away:
            self.refused += 1
            return [Answer("not_sent", reason=Reason("venue_unreachable"))] * len(orders)
        self.batches.append(len(orders))
        await asyncio.sleep(0)
        answers = [await MemoryVenue.submit(self, order) for order in orders]
        self.duplicates += sum(answer.outcome == "duplicate" for answer in answers)
        return [self._lost(order.cl_ord_id, answer) for order, answer in zip(orders, answers, strict=True)]

    async def query(self, cl_ord_id: str) -> Answer:
        self.queries += 1
        return self._lost(cl_ord_id, await super().query(cl_ord_id))

    async def orders(self, after: int, limit: int) -> OrdersPage:
        if self.books_away:
            raise VenueAway("the books are closed")
        return await super().orders(after, limit)

    def _lost(self, cl_ord_id: str, answer: Answer) -> Answer:
        return Answer("unknown", reason=Reason("unreadable_answer")) if cl_ord_id in self.lost else answer


NEW_ORDER = NewOrder(
    cl_ord_id="before", symbol="AAPL", side="BUY", ord_type="LIMIT", tif="DAY", quantity=1, limit_micros=10_000
)


@dataclass
class House:
    """What stays when the gateway is restarted."""

    clock: SystemClock = field(default_factory=SystemClock)
    checkpoints: MemoryCheckpoints = field(default_factory=MemoryCheckpoints)
    feed: FrameList = field(default_factory=FrameList)
    source: FeedSource | None = None  # instead of `feed`
    market_data: MarketData | None = None
    letters: MemoryLetters = field(default_factory=lambda: MemoryLetters(SystemClock()))

    def __post_init__(self) -> None:
        self.bus = MemoryBus(self.clock, retained_max=2_000_000)
        self.venue = Twin(self.clock, {"AAPL": (99_000_000, 101_000_000)})

    def gateway(self, **changes: str) -> Service:
        outside = Adapters(
            bus=self.bus,
            status_producer=self.bus.producer(),
            price_producer=self.bus.producer(),
            venue=self.venue,
            books=self.venue,
            feed=self.source or self.feed,
            drop_copy=self.venue,
            parked=self.letters,
            checkpoints=self.checkpoints,
            clock=self.clock,
            ids=Ids(self.clock, seed=1),
            market_data=self.market_data,
        )
        return assemble(settings_of(**{"venue_retry_s": "0.05", "venue_ask_s": "0.05"} | changes), outside)

    async def reports(self, source: str = "") -> list[Report]:
        found = [status_message(record.value) for record in await read_all(self.bus, ORDER_STATUS)]
        return [said for said in found if isinstance(said, Report) and source in ("", said.source)]


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_parts(service.parts, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def records(bus: MemoryBus, topic: str, at_least: int, seconds: float = 10.0) -> list[Message]:
    """Everything on a topic once there are so many records, snapshots of the venue's side left out."""
    deadline = time.monotonic() + seconds
    while len(found := [r for r in await read_all(bus, topic) if b"snapshot:" not in (r.key or b"")]) < at_least:
        assert time.monotonic() < deadline, f"{len(found)} of {at_least} records on {topic}"
    return found


async def until_told(house: House, check: Callable[[list[Report]], bool], seconds: float = 10.0) -> list[Report]:
    """All reports, once `check` holds for them."""
    deadline = time.monotonic() + seconds
    while not check(found := await house.reports()):
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.005)
    return found


async def crash() -> None:
    """End everything that was started, wherever it is."""
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
