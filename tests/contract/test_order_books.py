"""What the books, the watch and the list of breaks must do beside every order store, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from infra.clock import Ids, ManualClock
from order_service.domain import facts
from order_service.domain.breaks import Break
from order_service.domain.ledger import HOUSE, Balance, Book, Transfer, suspended
from order_service.domain.lifecycle import Event
from order_service.domain.order import Order
from order_service.store.books_pg import PgBooks
from order_service.store.breaks_pg import PgBreaks
from order_service.store.funding import DEMO_FUNDS, NO_FUNDS, Funds, fund
from order_service.store.memory import MemoryOrders
from order_service.store.memory_books import MemoryBooks
from order_service.store.memory_watch import MemoryBreaks, MemoryWatch
from order_service.store.orders_pg import add_accounts, opened
from order_service.store.ports import Books, Breaks, OrderStore, Watch
from order_service.store.unit import Unit, Want
from order_service.store.watch_pg import PgWatch
from tests.stored_orders import (
    BACK_OFFICE,
    DESK,
    INVESTOR,
    NOW_US,
    OTHER,
    USD,
    apply,
    change,
    execution,
    new_ids,
    order,
    placed,
)

CLOCK = ManualClock(NOW_US * 1000)
FUNDS = Funds(1_000 * USD, {"AAPL": 50})
THEIRS = "01890000-0000-7000-8000-0000000000ff"
FEES: dict[str, Any] = {"fee_per_share_micros": 5_000, "fee_min_micros": 1 * USD}


@dataclass(frozen=True, slots=True)
class Store:
    orders: OrderStore
    books: Books
    watch: Watch
    breaks: Breaks


def broken(subject: str, **changes: Any) -> Break:
    values: dict[str, Any] = {"ours": {"qty": 1}, "theirs": {"qty": 2}, "proposal": "ask", "seen_us": NOW_US}
    return Break(kind="status", subject=subject, **{**values, **changes})


async def fill(store: Store, ids: Ids, of: Order, qty: int, micros: int, exec_id: str, venue_seq: int) -> Order:
    """A fill as the reports' room books it: execution and quantities together."""
    executed = execution(of, exec_id, venue_seq, qty, micros)
    fact = facts.Report(event=Event.TRADED, traded_qty=qty, traded_notional_micros=qty * micros, venue_seq=venue_seq)

    def record(unit: Unit) -> Order:
        unit.executed(executed)
        return unit.record(facts.apply(unit.orders[of.id], fact, NOW_US), change(ids, "OrderFilled"))

    return await store.orders.write(DESK, Want(orders=frozenset({of.id})), record)


class OrderBooksContract:
    """Subclasses give the fixture `store`, with accounts 1 to 5 that have nothing."""

    @pytest.fixture
    def ids(self) -> Ids:
        return new_ids()

    async def test_funds_are_given_once(self, store: Store) -> None:
        assert await fund(store.books, BACK_OFFICE, 1, FUNDS)
        assert not await fund(store.books, BACK_OFFICE, 1, FUNDS)
        assert await fund(store.books, BACK_OFFICE, 1, Funds(5), "birthday")
        account = await store.books.account(INVESTOR, 1)
        assert account is not None
        assert account.cash == Balance(1_000 * USD + 5)
        assert await store.books.positions(INVESTOR, 1) == {"AAPL": Balance(50)}
        assert await store.books.differences() == []

    async def test_simultaneous_deposits_of_one_entry_count_once(self, store: Store) -> None:
        given = await asyncio.gather(*(fund(store.books, BACK_OFFICE, 1, FUNDS) for _ in range(8)))
        assert sorted(given) == [False] * 7 + [True]
        assert await store.books.positions(INVESTOR, 1) == {"AAPL": Balance(50)}

    async def test_only_those_who_may_see_find_and_book(self, store: Store) -> None:
        await fund(store.books, BACK_OFFICE, 1, FUNDS)
        assert await store.books.account(OTHER, 1) is None
        assert await store.books.positions(OTHER, 1) == {}
        assert await store.books.account(BACK_OFFICE, 1) is not None
        assert await store.books.account(BACK_OFFICE, 77) is None
        with pytest.raises(PermissionError):
            await fund(store.books, INVESTOR, 1, FUNDS, "again")
        with pytest.raises(LookupError):
            await fund(store.books, BACK_OFFICE, 77, FUNDS)
        assert await store.books.differences() == []

    async def test_empty_positions_are_not_shown(self, store: Store, ids: Ids) -> None:
        await fund(store.books, BACK_OFFICE, 1, FUNDS)
        back = Transfer("AAPL", 50, Book(1, "available"), Book(HOUSE, "bank"))
        assert await store.books.post(BACK_OFFICE, [back], str(ids.uuid7()))
        assert await store.books.positions(INVESTOR, 1) == {}

    async def test_books_agree_after_every_kind_of_change(self, store: Store, ids: Ids) -> None:
        await fund(store.books, BACK_OFFICE, 1, FUNDS)
        bought = await placed(store.orders, ids, amount_micros=5 * USD, **FEES)
        await fill(store, ids, bought, 4, 4 * USD, "E-1", 1)
        sold = await placed(store.orders, ids, order_type="sell", quantity=3, **FEES)
        await fill(store, ids, sold, 3, 6 * USD, "E-2", 1)
        gone = await placed(store.orders, ids, quantity=7)
        await apply(store.orders, ids, gone, facts.Report(event=Event.CANCELED, venue_seq=1))
        stray = execution(order(THEIRS, account_id=HOUSE), "E-3", 1, 2, 3 * USD)

        def book_stray(unit: Unit) -> None:
            unit.executed(stray)
            unit.book(suspended("AAPL", "buy", 2, 6 * USD), str(ids.uuid7()), None, NOW_US)

        await store.orders.write(DESK, Want(), book_stray)
        assert await store.books.differences() == []
        account = await store.books.account(INVESTOR, 1)
        assert account is not None
        # Reserved: 6 open shares at 5 USD, and nothing for the fee, whose minimum is charged already.
        assert account.cash == Balance(1_000 * USD - 30 * USD, 30 * USD, -16 * USD + 18 * USD - 2 * USD)
        assert account.open_orders == 1
        assert await store.books.positions(INVESTOR, 1) == {"AAPL": Balance(50, 0, 4 - 3)}

    async def test_contradictions_are_found(self, store: Store, ids: Ids) -> None:
        """Cash from nowhere, a count, a quantity without an execution, a fill of nobody's that was not booked."""
        bought = await placed(store.orders, ids, amount_micros=5 * USD)
        fact = facts.Report(event=Event.TRADED, traded_qty=4, traded_notional_micros=16 * USD, venue_seq=1)
        await apply(store.orders, ids, bought, fact)

        def scribble(unit: Unit) -> None:
            unit.accounts[2].cash.available = 7
            unit.accounts[2].open_orders = 1
            unit.touched.add(2)
            unit.executed(execution(order(THEIRS, account_id=HOUSE), "E-3", 1, 2, 3 * USD))

        await store.orders.write(DESK, Want(accounts=frozenset({2})), scribble)
        found = {one.subject: (dict(one.ours), dict(one.theirs)) for one in await store.books.differences()}
        assert found == {
            f"{bought.id}/executions": (
                {"quantity": 4, "notional_micros": 16 * USD},
                {"quantity": 0, "notional_micros": 0},
            ),
            "2/USD/available": ({"balance": 7}, {"balance": 0}),
            "2/open orders": ({"openOrders": 1}, {"openOrders": 0}),
            "suspense/AAPL": ({"ledger": 0}, {"ledger": 2}),
            "suspense/USD": ({"ledger": 0}, {"ledger": -6 * USD}),
        }

    async def test_due_orders_are_the_most_overdue_first(self, store: Store, ids: Ids) -> None:
        orders = [await placed(store.orders, ids, next_attempt_us=NOW_US + us) for us in (3, 1, 2)]
        await placed(store.orders, ids)
        last, first, middle = (one.id for one in orders)
        assert await store.watch.due(NOW_US, 10) == []
        assert await store.watch.due(NOW_US + 2, 10) == [first, middle]
        assert await store.watch.due(NOW_US + 3, 2) == [first, middle]
        assert await store.watch.due(NOW_US + 3, 10) == [first, middle, last]

    async def test_open_orders_are_paged_by_id(self, store: Store, ids: Ids) -> None:
        orders = [await placed(store.orders, ids, asker=(INVESTOR, OTHER)[i % 2]) for i in range(4)]
        await apply(store.orders, ids, orders[1], facts.Report(event=Event.CANCELED, venue_seq=1))
        assert await store.watch.open_after(None, 2) == [orders[0], orders[2]]
        assert await store.watch.open_after(orders[2].id, 2) == [orders[3]]
        assert await store.watch.orders_of([orders[3].id, "not ours", str(ids.uuid7())]) == {orders[3].id: orders[3]}

    async def test_executions_of_orders_and_of_nobody(self, store: Store, ids: Ids) -> None:
        bought = await placed(store.orders, ids)
        mine, stray = execution(bought, "E-1", 1, 4, 5), execution(order(THEIRS, account_id=HOUSE), "E-2", 1, 2, 3)

        def book(unit: Unit) -> None:
            unit.executed(mine)
            unit.executed(stray)

        await store.orders.write(DESK, Want(), book)
        assert await store.watch.executions_of([bought.id, THEIRS, "other"]) == {mine.key: mine, stray.key: stray}

    async def test_histories_are_paged_by_id(self, store: Store, ids: Ids) -> None:
        orders = [await placed(store.orders, ids) for _ in range(3)]
        fact = facts.Report(event=Event.ACKNOWLEDGED, venue_seq=1)
        orders[1] = await apply(store.orders, ids, orders[1], fact)
        events = [await store.orders.events(BACK_OFFICE, one.id) for one in orders]
        assert [len(each) for each in events] == [1, 2, 1]
        assert await store.watch.histories_after(None, 2) == list(zip(orders[:2], events[:2], strict=True))
        assert await store.watch.histories_after(orders[1].id, 2) == [(orders[2], events[2])]

    async def test_a_difference_found_again_keeps_its_age(self, store: Store) -> None:
        await store.breaks.note([broken("a"), broken("b", note="look")])
        await store.breaks.note([broken("a", ours={"qty": 9}, seen_us=NOW_US + 5)])
        found = {one.subject: one for one in await store.breaks.page("open", None, 10)}
        assert found["a"] == broken("a", ours={"qty": 9})
        assert found["b"] == broken("b", note="look")
        assert await store.breaks.ages() == {"open": (2, NOW_US)}

    async def test_a_closed_difference_opens_again_only_with_other_numbers(self, store: Store) -> None:
        first = broken("a")
        await store.breaks.note([first])
        assert await store.breaks.mark(BACK_OFFICE, first.id, "accepted", "known")
        await store.breaks.note([replace(first, seen_us=NOW_US + 1)])
        assert await store.breaks.page(None, None, 10) == [replace(first, state="accepted", note="known")]
        await store.breaks.note([replace(first, theirs={"qty": 3})])
        assert await store.breaks.page("open", None, 10) == [replace(first, theirs={"qty": 3}, note="known")]

    async def test_a_repaired_difference_stays_so(self, store: Store) -> None:
        first = broken("a")
        await store.breaks.note([first])
        await store.breaks.note([replace(first, state="repaired", note="applied the fill")])
        await store.breaks.note([first])
        assert await store.breaks.ages() == {"repaired": (1, NOW_US)}

    async def test_breaks_are_paged_by_id_and_marked_if_known(self, store: Store, ids: Ids) -> None:
        breaks = sorted((broken(str(i)) for i in range(3)), key=lambda one: one.id)
        await store.breaks.note(breaks)
        await store.breaks.note([])
        assert await store.breaks.page("open", None, 2) == breaks[:2]
        assert await store.breaks.page(None, breaks[1].id, 2) == breaks[2:]
        for unknown in (str(ids.uuid7()), "not an id"):
            assert not await store.breaks.mark(BACK_OFFICE, unknown, "accepted", "")
        assert await store.breaks.mark(BACK_OFFICE, breaks[0].id, "explained", "theirs")
        assert await store.breaks.mark(BACK_OFFICE, breaks[0].id, "open", "after all")
        assert (await store.breaks.page("open", None, 1))[0] == replace(breaks[0], note="after all")

    async def test_a_batch_lists_its_breaks(self, store: Store) -> None:
        await store.orders.write(DESK, Want(), lambda unit: unit.broken(broken("a")))
        assert await store.breaks.page("open", None, 10) == [broken("a")]


def test_the_twin_is_funded_for_the_demo() -> None:
    store = MemoryOrders()
    assert store.accounts[5].cash == Balance(DEMO_FUNDS.cash_micros)
    assert store.positions[1, "AAPL"] == Balance(DEMO_FUNDS.shares["AAPL"])


class TestMemory(OrderBooksContract):
    @pytest.fixture
    def store(self) -> Store:
        orders = MemoryOrders(funds=NO_FUNDS)
        return Store(orders, MemoryBooks(orders, CLOCK), MemoryWatch(orders), MemoryBreaks(orders))


@pytest.mark.real
class TestPostgreSQL(OrderBooksContract):
    @pytest.fixture
    async def store(self, orders_db: str) -> AsyncIterator[Store]:
        await add_accounts(orders_db, [(number, f"Account {number}") for number in range(1, 6)])
        async with opened(orders_db, "test") as orders:
            yield Store(orders, PgBooks(orders, CLOCK), PgWatch(orders), PgBreaks(orders))
