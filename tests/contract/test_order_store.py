"""What every order store must do, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from infra.clock import Ids
from infra.contracts import Command, OrderEvent, cl_ord_id, decode
from order_service.domain import facts
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution
from order_service.domain.ledger import Balance
from order_service.domain.lifecycle import Event, Status
from order_service.domain.order import Outcome, Pending, Why
from order_service.store.funding import NO_FUNDS
from order_service.store.memory import MemoryOrders
from order_service.store.order_json import order_bytes, rebuilt
from order_service.store.orders_pg import PgOrders, add_accounts, opened
from order_service.store.ports import ConflictError, Filter, OpenOrder, OpenOrders, OrderStore
from order_service.store.unit import Account, Unit, Want
from tests.stored_orders import (
    BACK_OFFICE,
    DESK,
    INVESTOR,
    NOW_US,
    OTHER,
    TRACE,
    USD,
    apply,
    change,
    execution,
    new_ids,
    order,
    placed,
)


class OrderStoreContract:
    """Subclasses give the fixture `store`, with accounts 1 to 5 that have nothing."""

    @pytest.fixture
    def ids(self) -> Ids:
        return new_ids()

    async def test_what_is_written_is_read_back_whole(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids)
        changes: dict[str, Any] = {
            "reserve_micros": 7,
            "fee_per_share_micros": 3,
            "fee_min_micros": 2,
            "not_after_us": NOW_US + 9,
        }
        market = await placed(store, ids, type="MARKET", amount_micros=None, tif="IOC", **changes)
        assert await store.find(INVESTOR, first.id) == first
        assert await store.find(INVESTOR, market.id) == market
        assert (first.version, first.account_seq, market.account_seq) == (1, 1, 2)

    async def test_every_changing_field_survives_an_update(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids)
        full = replace(
            first,
            quantity=12,
            amount_micros=580_250_009,
            status=Status.PARTIALLY_FILLED,
            standing=Status.PLACED,
            pending=Pending.REPLACE,
            outcome=Outcome.CONFIRMED,
            cum_qty=3,
            leaves_qty=9,
            cum_notional_micros=3 * 580_250_001,
            exchange_order_id="V-9",
            cl_ord_id=cl_ord_id(first.id, 2),
            replaces=first.cl_ord_id,
            requests=3,
            asked_quantity=14,
            asked_micros=580_250_010,
            venue_seq=4,
            terms_seq=3,
            reason=Why("too_late", "Is 'quoted' \"twice\" \\ ∑", {"numbers": [1, 2.5], "none": None}),
            attempts=2,
            next_attempt_us=NOW_US + 5_000_001,
            version=2,
            updated_us=NOW_US + 1,
        )

        async with asyncio.timeout(10):
            saved = await store.write(
                DESK, Want(orders=frozenset({first.id})), lambda unit: unit.record(full, change(ids, "OrderUpdated"))
            )
        assert saved == replace(full, account_seq=2)
        assert await store.find(INVESTOR, first.id) == saved
        assert rebuilt([event.payload for event in await store.events(INVESTOR, first.id)]) == saved

    async def test_the_loaded_unit_has_what_was_wanted(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids, idempotency_key="k")
        want = Want(
            accounts=frozenset({2, 77}),
            keys=frozenset({(1, "k"), (2, "k")}),
            orders=frozenset({first.id, str(ids.uuid7()), "not an id of ours"}),
            executions=frozenset({(first.id, "E")}),
            positions=frozenset({(2, "AAPL")}),
        )

        def look(unit: Unit) -> None:
            assert {a.id: a.seq for a in unit.accounts.values()} == {1: 1, 2: 0}
            assert unit.orders == {first.id: first}
            assert unit.first_of_key(1, "k") == first
            assert unit.first_of_key(2, "k") is None
            assert unit.known == {}
            assert unit.position(2, "AAPL") == Balance()

        await store.write(DESK, want, look)

    async def test_every_field_of_an_account_survives(self, store: OrderStore, ids: Ids) -> None:
        full = Account(
            id=2,
            status="blocked",
            seq=0,
            cash=Balance(5, -6, 7),
            open_orders=3,
            earlier_shares=10**12,
            second=1_700_000_000,
            in_second=4,
            recent=(("hash", NOW_US), ("other", NOW_US + 1)),
            blocked_reason="overfill",
        )

        def fill(unit: Unit) -> None:
            unit.accounts[2] = full
            unit.block(2, "overfill")

        want = Want(accounts=frozenset({2}))
        await store.write(DESK, want, fill)
        assert await store.write(DESK, want, lambda unit: unit.accounts[2]) == full

    async def test_books_move_with_the_orders(self, store: OrderStore, ids: Ids) -> None:
        """A buy reserves cash, its fill moves cash and shares, a sell reserves shares; positions are added to."""
        bought = await placed(store, ids, quantity=10, amount_micros=5 * USD)
        fact = facts.Report(event=Event.TRADED, traded_qty=4, traded_notional_micros=16 * USD, venue_seq=1)
        await apply(store, ids, bought, fact)
        await placed(store, ids, order_type="sell", quantity=3)

        def look(unit: Unit) -> None:
            assert unit.accounts[1].cash == Balance(-30 * USD, 30 * USD, -16 * USD)
            assert unit.position(1, "AAPL") == Balance(-3, 3, 4)
            assert unit.accounts[1].open_orders == 2

        for want in (
            Want(accounts=frozenset({1}), positions=frozenset({(1, "AAPL")})),
            Want(orders=frozenset({bought.id})),
        ):
            await store.write(DESK, want, look)

    async def test_looking_changes_nothing(self, store: OrderStore, ids: Ids) -> None:
        want = Want(accounts=frozenset({1}), positions=frozenset({(1, "AAPL")}))

        def scribble(unit: Unit) -> None:
            unit.accounts[1].cash.available += 1
            unit.position(1, "AAPL").available += 1

        await store.write(DESK, want, scribble)
        assert await store.write(DESK, want, lambda unit: unit.accounts[1]) == Account(1)
        assert await store.write(DESK, want, lambda unit: unit.position(1, "AAPL")) == Balance()

    async def test_a_decision_that_raises_saves_nothing(self, store: OrderStore, ids: Ids) -> None:
        new = order(str(ids.uuid7()))

        def fail(unit: Unit) -> None:
            unit.record(new, change(ids))
            raise RuntimeError("poison")

        with pytest.raises(RuntimeError, match="poison"):
            await store.write(DESK, Want(accounts=frozenset({1})), fail)
        assert await store.find(INVESTOR, new.id) is None
        assert (await placed(store, ids)).account_seq == 1

    async def test_a_key_counts_per_account(self, store: OrderStore, ids: Ids) -> None:
        mine = await placed(store, ids, idempotency_key="k")
        theirs = await placed(store, ids, idempotency_key="k", asker=OTHER)
        want = Want(accounts=frozenset({1, 2}), keys=frozenset({(1, "k"), (2, "k"), (3, "k")}))
        found = await store.write(DESK, want, lambda unit: [unit.first_of_key(n, "k") for n in (1, 2, 3)])
        assert found == [mine, theirs, None]

    async def test_contradictions_are_conflicts(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids, idempotency_key="k")

        def without_looking(unit: Unit) -> None:
            unit.record(order(str(ids.uuid7()), idempotency_key="k"), change(ids))

        with pytest.raises(ConflictError):
            await store.write(DESK, Want(accounts=frozenset({1})), without_looking)

        def of_no_account(unit: Unit) -> None:
            unit.accounts[99] = Account(99)
            unit.record(order(str(ids.uuid7()), account_id=99), change(ids))

        with pytest.raises(ConflictError):
            await store.write(DESK, Want(), of_no_account)

        def outdated(unit: Unit) -> None:
            unit.orders[first.id] = replace(first, version=7)
            unit.record(replace(first, version=8), change(ids))

        with pytest.raises(ConflictError):
            await store.write(DESK, Want(orders=frozenset({first.id})), outdated)
        assert await store.find(INVESTOR, first.id) == first

    async def test_an_execution_is_stored_once_and_found_by_its_fill(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids)
        fill = execution(first, "E-1", 2, 3, 5)
        bust = execution(first, "E-2", 3, 0, 0, kind="bust", exec_ref_id="E-1", source="webhook")
        other = execution(first, "E-3", 4, 1, 5)

        def books(*executed: Execution) -> Callable[[Unit], None]:
            def book(unit: Unit) -> None:
                for one in executed:
                    unit.executed(one)

            return book

        await store.write(DESK, Want(orders=frozenset({first.id})), books(fill, bust, other))
        with pytest.raises(ConflictError):
            await store.write(DESK, Want(orders=frozenset({first.id})), books(fill))
        want = Want(orders=frozenset({first.id}), executions=frozenset({(first.id, "E-1")}))
        assert await store.write(DESK, want, lambda unit: dict(unit.known)) == {fill.key: fill, bust.key: bust}

    async def test_a_fill_of_no_order_of_ours_is_kept(self, store: OrderStore, ids: Ids) -> None:
        theirs = order(str(ids.uuid7()), account_id=0)
        stray = execution(theirs, "E-1", 1, 3, 5)
        want = Want(executions=frozenset({(theirs.id, "E-1")}))
        await store.write(DESK, want, lambda unit: unit.executed(stray))
        assert await store.write(DESK, want, lambda unit: dict(unit.known)) == {stray.key: stray}

    async def test_a_batch_may_only_list_a_break(self, store: OrderStore, ids: Ids) -> None:
        found = Break(
            kind="exec_conflict", subject="E", ours={"qty": 1}, theirs={"qty": 2}, proposal="", seen_us=NOW_US
        )
        await store.write(DESK, Want(), lambda unit: unit.broken(found))

    async def test_only_those_who_may_see_find(self, store: OrderStore, ids: Ids) -> None:
        mine = await placed(store, ids)
        assert await store.find(OTHER, mine.id) is None
        assert await store.events(OTHER, mine.id) == []
        assert await store.events_since(OTHER, 1, 0, 10) == []
        assert await store.page(OTHER, Filter()) == []
        assert await store.page(OTHER, Filter(account_id=1)) == []
        assert await store.find(BACK_OFFICE, mine.id) == mine
        assert len(await store.events(BACK_OFFICE, mine.id)) == 1
        assert await store.page(BACK_OFFICE, Filter()) == [mine]

    async def test_pages_are_newest_first_and_filtered(self, store: OrderStore, ids: Ids) -> None:
        orders = [await placed(store, ids, symbol=symbol, quantity=100) for symbol in ("AAPL", "LOTS", "AAPL")]
        theirs = await placed(store, ids, asker=OTHER)
        newest = orders[::-1]
        assert await store.page(INVESTOR, Filter()) == newest
        assert await store.page(INVESTOR, Filter(limit=2)) == newest[:2]
        assert await store.page(INVESTOR, Filter(before=newest[0].id)) == newest[1:]
        assert await store.page(INVESTOR, Filter(symbol="AAPL")) == [newest[0], newest[2]]
        assert await store.page(INVESTOR, Filter(status=Status.FILLED)) == []
        assert await store.page(INVESTOR, Filter(status=Status.PENDING, symbol="LOTS")) == [newest[1]]
        assert await store.page(BACK_OFFICE, Filter()) == [theirs, *newest]
        assert await store.page(BACK_OFFICE, Filter(account_id=2)) == [theirs]

    async def test_events_follow_the_orders(self, store: OrderStore, ids: Ids) -> None:
        first, second = await placed(store, ids), await placed(store, ids)
        fact = facts.Report(event=Event.ACKNOWLEDGED, exchange_order_id="V", venue_seq=1)
        after = await apply(store, ids, first, fact, "OrderAccepted")
        events = await store.events(INVESTOR, first.id)
        assert [(e.type, e.version, e.account_seq) for e in events] == [("OrderPlaced", 1, 1), ("OrderAccepted", 2, 3)]
        since = await store.events_since(INVESTOR, 1, 1, 10)
        assert [(e.order_id, e.account_seq) for e in since] == [(second.id, 2), (first.id, 3)]
        assert await store.events_since(INVESTOR, 1, 0, 1) == [events[0]]
        message: OrderEvent = decode(OrderEvent, events[1].payload.encode())
        assert (message.event_id, message.version, message.account_seq) == (events[1].event_id, 2, 3)
        assert b'"order":' + order_bytes(after) + b',"state":{' in events[1].payload.encode()

    async def test_simultaneous_batches_number_without_holes(self, store: OrderStore, ids: Ids) -> None:
        await asyncio.gather(*(placed(store, ids, asker=(INVESTOR, OTHER)[i % 2]) for i in range(40)))
        for asker in (INVESTOR, OTHER):
            assert asker.account_id is not None
            events = await store.events_since(asker, asker.account_id, 0, 100)
            assert [e.account_seq for e in events] == list(range(1, 21))

    async def test_open_orders_are_of_one_account_and_not_final(self, store: OrderStore, ids: Ids) -> None:
        assert await store.open_orders(INVESTOR, 1) == OpenOrders(0, [])
        first, second, third = [await placed(store, ids) for _ in range(3)]
        await placed(store, ids, asker=OTHER)
        accepted = facts.Report(event=Event.ACKNOWLEDGED, exchange_order_id="V", venue_seq=1)
        await apply(store, ids, first, accepted)
        await apply(store, ids, second, facts.Report(event=Event.REJECTED, exchange_order_id="W", venue_seq=1))
        found = await store.open_orders(BACK_OFFICE, 1)
        assert found == OpenOrders(5, [OpenOrder(first.id, 2, Status.PLACED), OpenOrder(third.id, 1, Status.PENDING)])
        assert await store.open_orders(INVESTOR, 1) == found
        assert await store.open_orders(OTHER, 1) is None
        assert await store.open_orders(BACK_OFFICE, 77) is None

    async def test_open_orders_and_their_number_are_of_one_moment(self, store: OrderStore, ids: Ids) -> None:
        placing = asyncio.gather(*(placed(store, ids) for _ in range(40)))
        while not placing.done():
            found = await store.open_orders(INVESTOR, 1)
            assert found is not None
            assert len(found.orders) == found.seq  # every event was a new order
            await asyncio.sleep(0)
        await placing
        last = await store.open_orders(INVESTOR, 1)
        assert last is not None
        assert (last.seq, len(last.orders)) == (40, 40)

    async def test_the_outbox_has_a_command_and_an_event(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids, idempotency_key="k")
        event, command = await outbox_of(store)
        assert (event["aggregatetype"], event["aggregateid"], event["type"]) == ("order-events", "1", "OrderPlaced")
        assert (command["aggregatetype"], command["aggregateid"], command["type"]) == ("orders", first.id, "submit")
        assert {row["idempotency_key"] for row in (event, command)} == {"k"}
        assert command["traceparent"] == TRACE
        (stored,) = await store.events(INVESTOR, first.id)
        assert (event["id"], event["payload"]) == (stored.event_id, stored.payload)
        said: Command = decode(Command, command["payload"].encode())
        assert (said.event_id, said.cl_ord_id, said.limit_micros) == (command["id"], first.cl_ord_id, 580_250_000)


async def outbox_of(store: OrderStore) -> list[dict[str, Any]]:
    names = ("id", "aggregatetype", "aggregateid", "type", "payload", "idempotency_key", "traceparent")
    if isinstance(store, MemoryOrders):
        return [{name: getattr(row, name) for name in names} for _, row in store.unpublished(0, 100)]
    assert isinstance(store, PgOrders)
    rows = await store.read(
        "SELECT id::text, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent FROM outbox"
        " ORDER BY seq",
        {},
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


class TestMemory(OrderStoreContract):
    @pytest.fixture
    def store(self) -> MemoryOrders:
        return MemoryOrders(funds=NO_FUNDS)


@pytest.mark.real
class TestPostgreSQL(OrderStoreContract):
    @pytest.fixture
    async def store(self, orders_db: str) -> AsyncIterator[PgOrders]:
        await add_accounts(orders_db, [(number, f"Account {number}") for number in range(1, 6)])
        async with opened(orders_db, "test") as store:
            yield store
