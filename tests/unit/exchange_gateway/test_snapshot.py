"""The venue's side, published whole or not at all, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import NewOrder
from exchange_gateway.reconcile import snapshot as snapshot_module
from exchange_gateway.reconcile.market import Market
from exchange_gateway.reconcile.snapshot import Snapshots
from exchange_gateway.reports.normalise import normalise
from exchange_gateway.venue import ExecutionsPage, OrdersPage, VenueAway
from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import Ids, ManualClock
from infra.contracts import MARKET_STATUS, ORDER_STATUS, MarketStatus, Snapshot, cl_ord_id, encode, status_message
from tests.unit.exchange_gateway.words import order_id, read_all, until

SESSION = 1_700_000_000


class Books(MemoryVenue):
    """The twin, whose books can go away after some pages, or lead nowhere."""

    pages_left = 1_000_000
    astray = False

    async def orders(self, after: int, limit: int) -> OrdersPage:
        self._turn()
        page = await super().orders(after, limit)
        return OrdersPage(page.total, page.orders, after) if self.astray else page

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        self._turn()
        return await super().executions(after, limit)

    def _turn(self) -> None:
        if not self.pages_left:
            raise VenueAway("gone")
        self.pages_left -= 1


class House:
    def __init__(self, interval_s: float = 3600.0) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        self.books = Books(self.clock, {"AAPL": (99_000_000, 101_000_000)}, SESSION)
        self.market = Market(self.bus)
        self.snapshots = Snapshots(
            self.books,
            self.bus.producer(),
            self.market,
            normalise,
            self.clock,
            Ids(self.clock, seed=1),
            interval_s,
        )

    async def trade(self, orders: int) -> None:
        for number in range(1, orders + 1):
            request = cl_ord_id(order_id(number), 1)
            crosses = 101_000_000 if number % 2 else 50_000_000
            await self.books.submit(
                NewOrder(
                    cl_ord_id=request,
                    symbol="AAPL",
                    side="BUY",
                    ord_type="LIMIT",
                    tif="DAY",
                    quantity=number,
                    limit_micros=crosses,
                )
            )

    async def status(self, kind: str, session: int = SESSION, symbol: str = "*") -> None:
        said = MarketStatus(kind=kind, session=session, at_ns=1, symbol=symbol)  # type: ignore[arg-type]
        await self.bus.producer().send(MARKET_STATUS, symbol.encode(), encode(said))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        following = asyncio.create_task(self.market.follow(stop))
        task = asyncio.create_task(self.snapshots.run(stop))
        try:
            yield
        finally:
            stop.set()
            following.cancel()
            async with asyncio.timeout(5):
                await asyncio.gather(task, following, return_exceptions=True)
            task.result()

    async def records(self) -> list[Message]:
        return await read_all(self.bus, ORDER_STATUS)

    async def parts(self) -> list[Snapshot]:
        found = [status_message(record.value) for record in await self.records()]
        parts = [part for part in found if isinstance(part, Snapshot)]
        assert len(parts) == len(found)
        return sorted(parts, key=lambda part: (part.snapshot_id, part.page))

    async def ends(self, count: int) -> list[Snapshot]:
        """The parts, once so many snapshots are whole."""
        async with asyncio.timeout(5):
            while True:
                parts = await self.parts()
                if sum(part.part == "end" for part in parts) >= count:
                    return parts
                await asyncio.sleep(0.002)


async def test_it_is_everything_in_order_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "PAGE_MAX", 2)
    house = House()
    await house.status("open")
    await house.trade(5)
    assert not house.snapshots.ready()
    async with house.running():
        parts = await house.ends(1)
        assert house.snapshots.ready()
    assert [part.part for part in parts] == ["begin", *["orders"] * 3, *["fills"] * 2, "end"]
    assert [part.page for part in parts] == list(range(7))
    assert {(part.snapshot_id, part.why, part.session, part.taken_ns) for part in parts} == {
        (parts[0].snapshot_id, "start", SESSION, house.clock.now_ns())
    }
    assert {record.key for record in await house.records()} == {f"snapshot:{parts[0].snapshot_id}".encode()}
    assert len({record.header("event-id") for record in await house.records()}) == 7
    assert (parts[-1].orders_total, parts[-1].fills_total) == (5, 3)
    states = [state for part in parts for state in part.orders]
    assert [(s.cl_ord_id, s.side, s.order_status, s.quantity, s.cum_qty) for s in states[:2]] == [
        (cl_ord_id(order_id(1), 1), "buy", "FILLED", 1, 1),
        (cl_ord_id(order_id(2), 1), "buy", "NEW", 2, 0),
    ]
    assert (states[0].cum_notional_micros, states[0].limit_micros, states[0].venue_seq) == (101_000_000, 101_000_000, 2)
    fills = [fill for part in parts for fill in part.fills]
    assert [(f.order_id, f.source, f.exec_type, f.last_qty) for f in fills] == [
        (order_id(number), "snapshot", "TRADE", number) for number in (1, 3, 5)
    ]


async def test_an_empty_venue_is_a_snapshot_too() -> None:
    house = House()
    async with house.running():
        parts = await house.ends(1)
    assert [part.part for part in parts] == ["begin", "end"]


@pytest.mark.parametrize("pages", [0, 1, 2, 3])
async def test_a_venue_that_goes_away_leaves_no_end_and_it_begins_anew(
    pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "PAGE_MAX", 2)
    monkeypatch.setattr(snapshot_module, "FIRST_PAUSE_S", 0.001)
    house = House()
    await house.trade(5)
    house.books.pages_left = pages
    async with house.running():
        await until(lambda: house.books.pages_left == 0)
        await asyncio.sleep(0.01)
        assert not house.snapshots.ready()
        house.books.pages_left = 1000
        parts = await house.ends(1)
    whole = parts[-1].snapshot_id
    assert len({part.snapshot_id for part in parts}) > 1
    assert [part.page for part in parts if part.snapshot_id == whole] == list(range(7))
    assert not any(part.part == "end" for part in parts if part.snapshot_id != whole)


async def test_pages_that_lead_nowhere_end_a_snapshot() -> None:
    house = House()
    house.books.astray = True
    async with house.running():
        await until(lambda: house.books.pages_left < 1_000_000)
        assert not house.snapshots.ready()
    assert {part.part for part in await house.parts()} == {"begin"}


async def test_one_every_interval() -> None:
    house = House(interval_s=0.01)
    async with house.running():
        parts = await house.ends(3)
    assert [part.why for part in parts if part.part == "end"][:3] == ["start", "interval", "interval"]


async def test_one_when_a_session_ends_and_only_then() -> None:
    house = House()
    await house.status("open", SESSION - 1)
    await house.status("close", SESSION - 1)  # over before we came
    async with house.running():
        await house.ends(1)
        await house.status("close", SESSION - 1)  # said again on a new connection
        await house.status("halt", SESSION, "AAPL")
        await house.status("open", SESSION)
        await house.status("close", SESSION)
        await house.status("close", SESSION)
        await house.ends(2)
        await house.status("open", SESSION + 1)
        await house.status("close", SESSION + 1)
        parts = await house.ends(3)
    told = [(part.why, part.session) for part in parts if part.part == "end"]
    assert told == [("start", SESSION - 1), ("session_end", SESSION), ("session_end", SESSION + 1)]


async def test_a_process_whose_turn_it_is_not_does_not_wait_for_one() -> None:
    house = House()
    assert not house.snapshots.ready()
    house.clock.advance(snapshot_module.STANDBY_AFTER_S + 1)
    assert house.snapshots.ready()
