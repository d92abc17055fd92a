"""The exchange's side compared with ours, on the twin: what is listed, what is mended, and that it is done once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from msgspec import structs

from infra.clock import Ids, ManualClock
from infra.contracts import ORDERS, Command, Report, Snapshot, VenueState, decode
from order_service.domain.breaks import Break
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order
from order_service.reconcile.plan import US_PER_S, Sight, missing_there, stands_as
from order_service.reconcile.reconcile import Reconcile
from order_service.reports.order_status import OrderStatus
from order_service.store.memory import MemoryOrders
from order_service.store.memory_books import MemoryBooks
from order_service.store.memory_watch import MemoryBreaks, MemoryWatch
from order_service.store.unit import Want
from tests.unit.order_service.makers import BACK_OFFICE, NOW_US, change, fill, order, report

GRACE_US = 10 * US_PER_S
SESSION = NOW_US // US_PER_S - 3600
FIRST, SECOND = "018bcfe5-6800-7000-8000-000000000001", "018bcfe5-6801-7000-8000-000000000002"  # placed at NOW_US
Part = Literal["begin", "orders", "fills", "end"]


@dataclass
class House:
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_US * 1000))
    store: MemoryOrders = field(default_factory=MemoryOrders)
    snapshots: int = 0

    def __post_init__(self) -> None:
        self.ids = Ids(self.clock, 3)
        self.status = OrderStatus(self.store, self.clock, self.ids, self.take)
        self.reconcile = Reconcile(
            self.store,
            MemoryWatch(self.store),
            MemoryBooks(self.store, self.clock),
            MemoryBreaks(self.store),
            self.status.apply,
            self.clock,
            self.ids,
            GRACE_US,
        )

    async def take(self, part: Snapshot) -> None:
        await self.reconcile.take(part)

    async def place(self, *orders: Order) -> None:
        for one in orders:
            await self.store.write(
                BACK_OFFICE,
                Want(accounts=frozenset({1})),
                lambda unit, one=one: unit.record(one, change(self.ids)),  # type: ignore[misc]
            )

    def parts(
        self, states: Sequence[VenueState] = (), fills: Sequence[Report] = (), why: Any = "interval", **changes: Any
    ) -> list[Snapshot]:
        """A snapshot taken a minute after whatever was before."""
        self.clock.advance(60)
        self.snapshots += 1
        plain = Snapshot(
            snapshot_id=f"S{self.snapshots}",
            why=why,
            part="begin",
            page=0,
            session=SESSION,
            taken_ns=self.clock.now_ns(),
        )
        contents: list[tuple[Part, dict[str, Any]]] = [("begin", {})]
        contents += [("orders", {"orders": (state,)}) for state in states]
        contents += [("fills", {"fills": (structs.replace(one, source="snapshot"),)}) for one in fills]
        contents.append(("end", {"orders_total": len(states), "fills_total": len(fills)}))
        return [
            structs.replace(plain, part=part, page=page, **{**content, **changes})
            for page, (part, content) in enumerate(contents)
        ]

    async def compare(self, *given: Any, **changes: Any) -> dict[str, Break]:
        """The listed breaks by kind, after one more snapshot."""
        for part in self.parts(*given, **changes):
            await self.take(part)
        return self.breaks

    @property
    def breaks(self) -> dict[str, Break]:
        return {found.kind: found for found in self.store.breaks.values()}

    @property
    def commands(self) -> list[Command]:
        return [decode(Command, row.payload.encode()) for row in self.store.outbox if row.aggregatetype == ORDERS]


def state(of: Order, order_status: str = "NEW", **changes: Any) -> VenueState:
    values: dict[str, Any] = {
        "cl_ord_id": of.cl_ord_id,
        "exchange_order_id": "V-1",
        "symbol": of.symbol,
        "side": of.order_type,
        "order_status": order_status,
        "quantity": of.quantity,
        "cum_qty": of.cum_qty,
        "cum_notional_micros": of.cum_notional_micros,
        "venue_seq": 1,
        "limit_micros": of.amount_micros,
    }
    return VenueState(**{**values, **changes})


async def placed(*fills: Report) -> tuple[House, Order]:
    """One order that the exchange acknowledged."""
    home, one = House(), order(FIRST)
    await home.place(one)
    await home.status.apply([report(one, "NEW", venue_seq=1), *fills])
    return home, home.store.orders[one.id]


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (order(status=Status.PLACED), state(order()), True),
        (order(status=Status.PENDING), state(order()), False),
        (order(status=Status.PLACED), state(order(), quantity=11), False),
        (order(status=Status.PLACED), state(order(), limit_micros=1), False),
        (order(status=Status.PARTIALLY_FILLED, cum_qty=4), state(order(cum_qty=4), "PARTIALLY_FILLED"), True),
        (order(status=Status.PARTIALLY_FILLED, cum_qty=4), state(order(cum_qty=5), "PARTIALLY_FILLED"), False),
        (order(status=Status.FILLED, cum_qty=10), state(order(cum_qty=10), "FILLED"), True),
        (order(status=Status.FILLED, cum_qty=10), state(order(cum_qty=10), "CANCELED"), True),
        (order(status=Status.CANCELED), state(order(), "CANCELED"), True),
        (order(status=Status.EXPIRED), state(order(), "CANCELED"), False),
    ],
)
def test_whether_an_order_stands_the_same_on_both_sides(ours: Order, theirs: VenueState, same: bool) -> None:
    assert stands_as(ours, theirs) is same


async def test_what_agrees_leaves_no_trace() -> None:
    home, one = await placed(fill(FIRST, 4, 100, 2))
    fills = [fill(FIRST, 4, 100, 2)]
    events = len(home.store.outbox)
    assert await home.compare([state(one, "PARTIALLY_FILLED")], fills, why="session_end") == {}
    assert len(home.store.outbox) == events


async def test_a_missing_fill_is_applied_and_the_same_snapshot_again_changes_nothing() -> None:
    home, one = await placed()
    fills, theirs = [fill(FIRST, 4, 100, 2)], state(one, "PARTIALLY_FILLED", cum_qty=4, cum_notional_micros=400)
    found = await home.compare([theirs], fills)
    assert {(kind, listed.state) for kind, listed in found.items()} == {("fill_missing_here", "repaired")}
    mended = home.store.orders[one.id]
    assert (mended.cum_qty, mended.cum_notional_micros) == (4, 400)
    listed = dict(home.store.breaks)
    assert await home.compare([theirs], fills) == found
    assert (home.store.orders[one.id], home.store.breaks) == (mended, listed)


async def test_an_order_that_stands_differently_is_asked_about_and_mended_by_the_answer() -> None:
    home, one = await placed()
    theirs = state(one, "CANCELED")
    found = await home.compare([theirs])
    assert found["status"].state == "open"
    (asked,) = home.commands
    assert (asked.kind, asked.cl_ord_id) == ("query", one.cl_ord_id)
    await home.status.apply([report(one, "CANCELED", venue_seq=2, source="query")])
    found = await home.compare([theirs])
    assert (found["status"].state, found["status"].note) == ("repaired", "Agrees since snapshot S2.")


async def test_what_changed_a_moment_ago_is_left_for_the_next_snapshot() -> None:
    home, one = await placed()
    parts = home.parts([state(one, "PARTIALLY_FILLED", cum_qty=4, cum_notional_micros=400)])
    await home.status.apply([fill(FIRST, 3, 100, 2)])
    for part in parts:
        await home.take(part)
    assert home.breaks == {}
    assert home.commands == []


async def test_a_fill_that_the_exchange_does_not_know_is_a_break_of_fill_shares_and_cash() -> None:
    home, one = await placed(fill(FIRST, 4, 100, 2))
    found = await home.compare([state(order(FIRST))])
    assert {kind for kind, listed in found.items() if listed.state == "open"} == {
        "status",
        "fill_missing_at_venue",
        "position",
        "cash",
    }
    assert (found["position"].ours, found["position"].theirs) == ({"shares": 4}, {"shares": 0})
    assert (found["cash"].ours, found["cash"].theirs) == ({"micros": -400}, {"micros": 0})
    found = await home.compare([state(one, "PARTIALLY_FILLED")], [fill(FIRST, 4, 100, 2)])
    assert {listed.state for listed in found.values()} == {"repaired"}


async def test_a_bust_that_we_missed_comes_with_the_snapshot() -> None:
    home, one = await placed(fill(FIRST, 4, 100, 2))
    bust = report(FIRST, "TRADE_CANCEL", exec_ref_id="E-2", last_qty=4, last_micros=100, venue_seq=3)
    await home.compare([state(order(FIRST))], [fill(FIRST, 4, 100, 2), bust])
    assert home.store.orders[one.id].cum_qty == 0
    assert await home.compare([state(order(FIRST))], [fill(FIRST, 4, 100, 2), bust]) == home.breaks
    assert {listed.state for listed in home.breaks.values()} == {"repaired"}


async def test_an_order_that_only_the_exchange_has() -> None:
    home, one = await placed()
    found = await home.compare([state(one), state(order(SECOND)), state(one, cl_ord_id="somebody-else")])
    assert [listed.subject for listed in home.store.breaks.values()] == [order(SECOND).cl_ord_id, "somebody-else"]
    assert found["missing_here"].state == "open"
    await home.place(order(SECOND))
    await home.compare([state(one), state(order(SECOND))])
    states = {listed.subject: listed.state for listed in home.store.breaks.values() if listed.kind == "missing_here"}
    assert states == {order(SECOND).cl_ord_id: "repaired", "somebody-else": "open"}


async def test_an_open_order_that_the_exchange_has_no_more() -> None:
    home, one = await placed()
    await home.place(order(SECOND))  # not acknowledged: the exchange need not have it
    found = await home.compare([])
    assert {(kind, listed.state) for kind, listed in found.items()} == {("missing_at_venue", "open")}
    assert found["missing_at_venue"].order_id == one.id
    found = await home.compare([state(one)])
    assert found["missing_at_venue"].state == "repaired"


@pytest.mark.parametrize(
    ("began_s", "remembers", "explained"),
    [
        (3600, (), True),  # a session after the order was placed, and nothing from before it
        (7200, (3600, 7200), True),
        (3600, (-3600, 3600), False),  # its memory goes back further: the order alone is gone
        (-3600, (), False),  # it was this very session that acknowledged the order
    ],
)
def test_lost_memory_explains_a_missing_order(began_s: int, remembers: tuple[int, ...], explained: bool) -> None:
    taken = NOW_US + 86_400 * US_PER_S
    session = NOW_US // US_PER_S + began_s
    begin = Snapshot(snapshot_id="S", why="start", part="begin", page=0, session=session, taken_ns=taken * 1000)
    sight = Sight(begin, GRACE_US)
    for number, after_s in enumerate(remembers):
        sight.saw(f"other-{number}", state(order(SECOND), session=NOW_US // US_PER_S + after_s))
    found = missing_there(order(FIRST, status=Status.PLACED, venue_seq=1), sight, taken)
    assert found is not None
    assert found.state == ("explained" if explained else "open")


async def test_a_snapshot_with_a_hole_decides_nothing() -> None:
    home, _ = await placed()
    begin, end = home.parts([])
    for parts in ([end], [begin, structs.replace(end, page=2)], [begin, structs.replace(end, orders_total=1)]):
        for part in parts:
            await home.take(structs.replace(part, snapshot_id=f"{part.snapshot_id}-{len(parts)}-{parts[-1].page}"))
    assert home.breaks == {}


async def test_parts_that_come_twice_count_once() -> None:
    home, one = await placed()
    for part in home.parts([state(one), state(order(SECOND))]):
        await home.take(part)
        if part.part != "end":
            await home.take(part)
    assert set(home.breaks) == {"missing_here"}


async def test_the_books_are_audited_when_a_session_ends() -> None:
    home, one = await placed()
    account = home.store.accounts[1]
    home.store.accounts[1] = replace(account, cash=replace(account.cash, available=account.cash.available + 1))
    assert "ledger" not in await home.compare([state(one)])
    assert (await home.compare([state(one)], why="session_end"))["ledger"].state == "open"
    home.store.accounts[1] = account
    assert (await home.compare([state(one)], why="session_end"))["ledger"].state == "repaired"
