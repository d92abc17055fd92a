"""What every order store must do, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from infra.clock import Ids
from infra.contracts import Command, OrderEvent, decode
from infra.principal import system
from order_service.domain import facts
from order_service.domain.lifecycle import Event, Status
from order_service.domain.order import Order, Outcome, Pending, Why
from order_service.domain.reasons import Fault
from order_service.placing import place
from order_service.placing.place import Done, PlaceOrder
from order_service.store.memory import MemoryOrders
from order_service.store.order_json import order_bytes
from order_service.store.orders_pg import PgOrders, add_accounts, opened
from order_service.store.ports import ConflictError, Filter, OrderStore
from order_service.store.unit import Execution, FillKey, Unit, Want
from tests.unit.order_service.makers import (
    BACK_OFFICE,
    INVESTOR,
    LIMITS,
    LISTINGS,
    NOW_US,
    OTHER,
    change,
    new_ids,
    order,
    request,
)

DESK = system("test")


async def put(store: OrderStore, ids: Ids, *requests: PlaceOrder) -> list[Done | Fault]:
    want = Want(
        accounts=frozenset(r.account_id for r in requests), keys=frozenset((r.account_id, r.key) for r in requests)
    )
    return await store.write(
        DESK, want, lambda unit: [place.decide(unit, r, LISTINGS, LIMITS, NOW_US, ids) for r in requests]
    )


async def placed(store: OrderStore, ids: Ids, **changes: Any) -> Order:
    (done,) = await put(store, ids, request(ids, **changes))
    assert isinstance(done, Done)
    return done.order


class OrderStoreContract:
    """Subclasses give the fixture `store`, with accounts 1 to 5."""

    @pytest.fixture
    def ids(self) -> Ids:
        return new_ids()

    async def test_what_is_written_is_read_back_whole(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids)
        market = await placed(store, ids, type="MARKET", amount_micros=None, order_type="sell", tif="IOC")
        assert await store.find(INVESTOR, first.id) == first
        assert await store.find(INVESTOR, market.id) == market
        assert (first.version, first.account_seq, market.account_seq) == (1, 1, 2)

    async def test_every_field_survives_an_update(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids)
        full = replace(
            first,
            status=Status.PARTIALLY_FILLED,
            pending=Pending.CANCEL,
            outcome=Outcome.CONFIRMED,
            cum_qty=3,
            leaves_qty=7,
            cum_notional_micros=3 * 580_250_001,
            exchange_order_id="V-9",
            requests=2,
            venue_seq=4,
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

    async def test_the_loaded_unit_has_what_was_wanted(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids, key="k")
        want = Want(
            accounts=frozenset({2, 77}),
            keys=frozenset({(1, "k"), (2, "k")}),
            orders=frozenset({first.id, str(ids.uuid7())}),
            fills=frozenset({(first.id, "E")}),
        )

        def look(unit: Unit) -> None:
            assert {a.id: a.seq for a in unit.accounts.values()} == {1: 1, 2: 0}
            assert unit.orders == {first.id: first}
            assert unit.first_of_key(1, "k") == first
            assert unit.first_of_key(2, "k") is None
            assert unit.fills == {}

        await store.write(DESK, want, look)

    async def test_a_decision_that_raises_saves_nothing(self, store: OrderStore, ids: Ids) -> None:
        wanted = request(ids)

        def fail(unit: Unit) -> None:
            place.decide(unit, wanted, LISTINGS, LIMITS, NOW_US, ids)
            raise RuntimeError("poison")

        with pytest.raises(RuntimeError, match="poison"):
            await store.write(DESK, Want(accounts=frozenset({1})), fail)
        assert await store.find(INVESTOR, wanted.order_id) is None
        assert (await placed(store, ids)).account_seq == 1

    async def test_a_batch_sees_its_own_effects(self, store: OrderStore, ids: Ids) -> None:
        one, same, other = request(ids, key="k"), request(ids, key="k"), request(ids, key="k", quantity=11)
        first, again, refused = await put(store, ids, one, same, other)
        assert isinstance(first, Done)
        assert isinstance(again, Done)
        assert isinstance(refused, Fault)
        assert (first.replayed, again.replayed, again.order) == (False, True, first.order)
        assert refused.code.code == "idempotency_key_reused"
        assert refused.details["fields"] == "quantity"
        assert len(await store.page(INVESTOR, Filter())) == 1

    async def test_a_key_counts_per_account(self, store: OrderStore, ids: Ids) -> None:
        mine = await placed(store, ids, key="k")
        theirs = await placed(store, ids, key="k", asker=OTHER)
        assert mine.id != theirs.id
        (again,) = await put(store, ids, request(ids, key="k"))
        assert again == Done(mine, replayed=True)

    async def test_an_unknown_account_is_refused(self, store: OrderStore, ids: Ids) -> None:
        wanted = replace(request(ids), account_id=99)
        (refused,) = await put(store, ids, wanted)
        assert isinstance(refused, Fault)
        assert refused.code.code == "account_unknown"

    async def test_contradictions_are_conflicts(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids, key="k")

        def without_looking(unit: Unit) -> None:
            unit.record(order(str(ids.uuid7()), idempotency_key="k"), change(ids))

        with pytest.raises(ConflictError):
            await store.write(DESK, Want(accounts=frozenset({1})), without_looking)

        def outdated(unit: Unit) -> None:
            unit.orders[first.id] = replace(first, version=7)
            unit.record(replace(first, version=8), change(ids))

        with pytest.raises(ConflictError):
            await store.write(DESK, Want(orders=frozenset({first.id})), outdated)
        assert await store.find(INVESTOR, first.id) == first

    async def test_a_fill_is_stored_once(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids)
        key = FillKey(first.id, "E-1", 2)
        fill = Execution(key=key, account_id=1, last_qty=3, last_micros=5, transact_ns=9, source="answer")
        fact = facts.Report(event=None, last_qty=3, last_micros=5, exchange_order_id="V", venue_seq=2)

        def book(unit: Unit) -> None:
            unit.fill(fill)
            unit.record(facts.apply(unit.orders[first.id], fact, NOW_US), change(ids))

        await store.write(DESK, Want(orders=frozenset({first.id})), book)
        with pytest.raises(ConflictError):
            await store.write(DESK, Want(orders=frozenset({first.id})), book)
        want = Want(orders=frozenset({first.id}), fills=frozenset({(first.id, "E-1")}))
        assert await store.write(DESK, want, lambda unit: dict(unit.fills)) == {key: fill}
        found = await store.find(INVESTOR, first.id)
        assert found is not None
        assert (found.cum_qty, found.version) == (3, 2)

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

        def acknowledge(unit: Unit) -> Order:
            return unit.record(facts.apply(unit.orders[first.id], fact, NOW_US + 7), change(ids, "OrderAccepted"))

        after = await store.write(DESK, Want(orders=frozenset({first.id})), acknowledge)
        events = await store.events(INVESTOR, first.id)
        assert [(e.type, e.version, e.account_seq) for e in events] == [("OrderPlaced", 1, 1), ("OrderAccepted", 2, 3)]
        since = await store.events_since(INVESTOR, 1, 1, 10)
        assert [(e.order_id, e.account_seq) for e in since] == [(second.id, 2), (first.id, 3)]
        assert await store.events_since(INVESTOR, 1, 0, 1) == [events[0]]
        message: OrderEvent = decode(OrderEvent, events[1].payload.encode())
        assert (message.event_id, message.version, message.account_seq) == (events[1].event_id, 2, 3)
        assert events[1].payload.encode().endswith(b'"order":' + order_bytes(after) + b"}")

    async def test_simultaneous_batches_number_without_holes(self, store: OrderStore, ids: Ids) -> None:
        requests = [request(ids, asker=(INVESTOR, OTHER)[i % 2], key=f"k{i // 4}") for i in range(40)]
        await asyncio.gather(*(put(store, ids, *requests[i : i + 4]) for i in range(0, 40, 4)))
        for asker in (INVESTOR, OTHER):
            assert asker.account_id is not None
            events = await store.events_since(asker, asker.account_id, 0, 100)
            assert [e.account_seq for e in events] == list(range(1, 11))

    async def test_the_outbox_has_a_command_and_an_event(self, store: OrderStore, ids: Ids) -> None:
        first = await placed(store, ids, key="k")
        event, command = await outbox_of(store)
        assert (event["aggregatetype"], event["aggregateid"], event["type"]) == ("order-events", "1", "OrderPlaced")
        assert (command["aggregatetype"], command["aggregateid"], command["type"]) == ("orders", first.id, "submit")
        assert {row["idempotency_key"] for row in (event, command)} == {"k"}
        assert event["traceparent"] == command["traceparent"]
        (stored,) = await store.events(INVESTOR, first.id)
        assert (event["id"], event["payload"]) == (stored.event_id, stored.payload)
        said: Command = decode(Command, command["payload"].encode())
        assert (said.event_id, said.cl_ord_id, said.limit_micros) == (command["id"], first.cl_ord_id, 580_250_000)


async def outbox_of(store: OrderStore) -> list[dict[str, Any]]:
    names = ("id", "aggregatetype", "aggregateid", "type", "payload", "idempotency_key", "traceparent")
    if isinstance(store, MemoryOrders):
        return [{name: getattr(row, name) for name in names} for _, row in store.unpublished(0, 100)]
    assert isinstance(store, PgOrders)
    rows = await store._read(
        "SELECT id::text, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent FROM outbox"
        " ORDER BY seq",
        {},
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


class TestMemory(OrderStoreContract):
    @pytest.fixture
    def store(self) -> MemoryOrders:
        return MemoryOrders()


@pytest.mark.real
class TestPostgreSQL(OrderStoreContract):
    @pytest.fixture
    async def store(self, orders_db: str) -> AsyncIterator[PgOrders]:
        await add_accounts(orders_db, [(number, f"Account {number}") for number in range(1, 6)])
        async with opened(orders_db, "test") as store:
            yield store
