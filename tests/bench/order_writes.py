"""Orders and reports written by our own code in this process, beside pgbench running the same statements.

Each figure has a database of its own, freshly made in the same server; ours and the peer's are measured one after the
other, so both meet the machine as it is.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg

from infra.bus import Message
from infra.cache_memory import MemoryCache
from infra.clock import Ids, SystemClock
from infra.contracts import ORDER_STATUS, PRICES, Quote, Report, Snapshot, encode
from infra.principal import Principal, system
from infra.settings import Infra
from order_service.domain.risk import Listing
from order_service.placing.desk import Desk
from order_service.placing.idempotency import Keys
from order_service.placing.market import Market, Quotes
from order_service.reports.order_status import OrderStatus
from order_service.settings import OrderSettings
from order_service.store.books_pg import PgBooks
from order_service.store.funding import Funds, fund
from order_service.store.orders_pg import PgOrders, add_accounts, opened
from order_service.store.unit import Unit
from tests.bench.costs import costs
from tests.bench.figures import percentile

CALLERS, ACCOUNTS = 64, 1_000
FUNDS = Funds(10**17, {"AAPL": 10**9})
ASKERS = [Principal("bench", "investor", number) for number in range(1, ACCOUNTS + 1)]


@dataclass(frozen=True, slots=True)
class Speed:
    """What was written per second, how long each caller waited, and the CPU that one of them cost."""

    per_second: float
    p50_ms: float
    p99_ms: float
    python_us: float
    postgres_us: float
    count: int


@dataclass(slots=True)
class Meter:
    """Times what it is told of; CPU of this process and of the PostgreSQL server `pid`."""

    pid: int
    took_ms: list[float]
    started: float = 0.0
    cpu_s: float = 0.0
    server_s: float = 0.0

    def start(self) -> None:
        self.took_ms.clear()
        self.cpu_s, self.server_s = time.process_time(), self._server_s()
        self.started = time.perf_counter()

    def speed(self, count: int) -> Speed:
        seconds = time.perf_counter() - self.started
        python_s, server_s = time.process_time() - self.cpu_s, self._server_s() - self.server_s
        return Speed(
            count / seconds,
            percentile(self.took_ms, 50),
            percentile(self.took_ms, 99),
            python_s / count * 1e6,
            server_s / count * 1e6,
            count,
        )

    def _server_s(self) -> float:
        return costs({"postgres": self.pid})["postgres"].cpu_s


def market(clock: SystemClock) -> Market:
    """Open, and AAPL quoted."""
    quotes, now_ns = Quotes(), clock.now_ns()
    quote = encode(Quote("AAPL", 1, 1, now_ns, 580_000_000, 100, 580_100_000, 100))
    quotes.keep([Message(PRICES, 0, 0, b"AAPL", quote, (), now_ns // 1_000_000)])
    return Market(listings={"AAPL": Listing("AAPL", 10_000, 1, 0)}, session=1, open=True, known=True, quotes=quotes)


@asynccontextmanager
async def desk(store: PgOrders) -> AsyncIterator[Desk]:
    """The real one with all its checks; only the limits per account are out of reach."""
    clock = SystemClock()
    settings = OrderSettings(infra=Infra(), order_open_max=10**9, order_per_second_max=10**9)
    view, stop = market(clock), asyncio.Event()
    keys = Keys(MemoryCache(clock), clock)
    made = Desk(
        store,
        lambda: view,
        keys,
        settings.rules,
        clock,
        Ids(clock),
        settings.order_queue_max,
        settings.order_batch_max,
    )
    running = asyncio.create_task(made.run(stop))
    try:
        yield made
    finally:
        stop.set()
        await running


async def prepare(dsn: str) -> None:
    """The accounts and what they have."""
    await add_accounts(dsn, [(number, f"Account {number}") for number in range(1, ACCOUNTS + 1)])
    async with opened(dsn, "bench") as store:
        books = PgBooks(store, SystemClock())
        for number in range(1, ACCOUNTS + 1):
            await fund(books, system("bench"), number, FUNDS, "bench")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE")


async def orders(dsn: str, server_pid: int, seconds: float, accounts: int = ACCOUNTS) -> Speed:
    """Callers who each place an order and then the next, buys and sells in turn, on random accounts."""
    meter, requests = Meter(server_pid, []), itertools.cycle(_requests(accounts))
    async with opened(dsn, "bench") as store, desk(store) as placing:

        async def caller(until: Callable[[], bool]) -> None:
            while not until():
                started = time.perf_counter()
                asker, wanted = next(requests)
                await placing.place(asker, **wanted)
                meter.took_ms.append((time.perf_counter() - started) * 1000)

        await _callers(caller, 1.0)  # plans, connections and caches are warm
        meter.start()
        await _callers(caller, seconds)
        return meter.speed(len(meter.took_ms))


def _requests(accounts: int) -> list[tuple[Principal, dict[str, Any]]]:
    """So many that none comes again within the time in which the same order is taken for a slip."""
    chance = random.Random(1)
    return [
        (
            ASKERS[chance.randrange(accounts)],
            {
                "order_type": ("buy", "sell")[number % 2],
                "type_": "LIMIT",
                "symbol": "AAPL",
                "quantity": 1 + number % 1_000,
                "amount": Decimal(57_000 + number // 50) / 100,
                "tif": "DAY",
            },
        )
        for number in range(100_000)
    ]


async def _callers(caller: Callable[[Callable[[], bool]], object], seconds: float) -> None:
    end = time.perf_counter() + seconds
    await asyncio.gather(*(caller(lambda: time.perf_counter() > end) for _ in range(CALLERS)))  # type: ignore[call-overload]


async def reports(dsn: str, server_pid: int, count: int, batch: int) -> Speed:
    """An acknowledgement and a full fill for each of `count` orders that are stored, as batches from `order-status`."""
    clock, chance = SystemClock(), random.Random(2)
    meter = Meter(server_pid, [])

    async def no_snapshot(_: Snapshot) -> None:
        raise AssertionError("there is none")

    async with opened(dsn, "bench") as store:
        placed = [one for asker in ASKERS[: -(-count // 100)] for one in await _stored(store, asker, 100)]
        chance.shuffle(placed)
        told = [encode(said) for one in placed for said in _said(*one)]
        # The reports of one order are not neighbours in time.
        told = told[::2] + told[1::2]
        messages = [Message(ORDER_STATUS, 0, i, None, value, (), 0) for i, value in enumerate(told)]
        handler = OrderStatus(store, clock, Ids(clock), no_snapshot)
        meter.start()
        for start in range(0, len(messages), batch):
            before = time.perf_counter()
            parked = await handler.handle(messages[start : start + batch])
            assert not parked, parked[0]
            meter.took_ms.append((time.perf_counter() - before) * 1000)
        return meter.speed(len(messages))


async def _stored(store: PgOrders, asker: Principal, count: int) -> list[tuple[str, int, int]]:
    async with desk(store) as placing:
        found = []
        for at in range(0, count, CALLERS):
            quantities = [100 + at + i for i in range(min(CALLERS, count - at))]
            done = await asyncio.gather(
                *(
                    placing.place(
                        asker,
                        order_type="buy",
                        type_="LIMIT",
                        symbol="AAPL",
                        quantity=quantity,
                        amount=Decimal(580),
                        tif="DAY",
                    )
                    for quantity in quantities
                )
            )
            found += [(one.order_id, quantity, 580_000_000) for one, quantity in zip(done, quantities, strict=True)]
        return found


def _said(order_id: str, quantity: int, micros: int) -> tuple[Report, Report]:
    about: dict[str, Any] = {
        "kind": "execution",
        "order_id": order_id,
        "cl_ord_id": f"{order_id.replace('-', '')}-1",
        "source": "webhook",
        "received_ns": time.time_ns(),
        "exchange_order_id": f"V-{order_id}",
        "symbol": "AAPL",
        "side": "buy",
        "quantity": quantity,
        "limit_micros": micros,
    }
    new = Report(**about, exec_id=f"A{order_id[-12:]}", exec_type="NEW", venue_seq=1, leaves_qty=quantity)
    fill = Report(
        **about,
        exec_id=f"F{order_id[-12:]}",
        exec_type="TRADE",
        venue_seq=2,
        last_qty=quantity,
        last_micros=micros,
        cum_qty=quantity,
    )
    return new, fill


async def sample(dsn: str) -> Unit:
    """What one order of ours writes."""
    kept: list[Unit] = []
    async with opened(dsn, "bench") as store:

        class Watched:
            async def write(self, asker: Principal, want: object, decide: Callable[[Unit], object]) -> object:
                def looked(unit: Unit) -> object:
                    decided = decide(unit)
                    kept.append(unit)
                    return decided

                return await store.write(asker, want, looked)  # type: ignore[arg-type]

        async with desk(Watched()) as placing:  # type: ignore[arg-type]
            await placing.place(
                ASKERS[0], order_type="buy", type_="LIMIT", symbol="AAPL", quantity=10, amount=Decimal(580), tif="DAY"
            )
    return kept[0]
