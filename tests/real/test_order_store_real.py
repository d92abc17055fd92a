"""The order service on real servers: concurrency between processes, plans, constraints, the seed, the wiring."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from infra.bus_kafka import KafkaBus
from infra.contracts import INSTRUMENTS, ORDER_EVENTS, ORDER_STATUS, Instrument, encode
from infra.db import driver
from infra.principal import system
from infra.process import run_parts
from infra.settings import Infra
from order_service import app
from order_service.domain import facts
from order_service.domain.lifecycle import Status
from order_service.placing import place
from order_service.placing.place import Done
from order_service.settings import OrderSettings
from order_service.store import orders_pg
from order_service.store import statements_pg as sql
from order_service.store.orders_pg import add_accounts, opened
from order_service.store.ports import Filter
from order_service.store.unit import Account, Unit, Want
from tests.contract.test_order_store import put
from tests.flow.walking import eventually
from tests.unit.order_service.makers import (
    BACK_OFFICE,
    INVESTOR,
    LIMITS,
    LISTINGS,
    NOW_US,
    OTHER,
    change,
    fill,
    new_ids,
    report,
    request,
)

pytestmark = pytest.mark.real


@pytest.fixture
async def accounts(orders_db: str) -> str:
    await add_accounts(orders_db, [(number, f"Account {number}") for number in range(1, 6)])
    return orders_db


async def test_two_processes_with_one_key_make_one_order(accounts: str) -> None:
    ids = new_ids()
    async with opened(accounts, "one") as one, opened(accounts, "two") as two:
        requests = [request(ids, key=f"k{i % 8}") for i in range(64)]
        answers = await asyncio.gather(*(put((one, two)[i % 2], ids, r) for i, r in enumerate(requests)))
        done = [answer for (answer,) in answers if isinstance(answer, Done)]
        assert len(done) == 64
        assert len({d.order.id for d in done}) == sum(not d.replayed for d in done) == 8
        assert len(await one.page(INVESTOR, Filter())) == 8


async def test_writers_on_overlapping_accounts_neither_deadlock_nor_skip_a_number(accounts: str) -> None:
    """Batches lock the accounts in key order, whatever order they name them in; a report and a placing may meet."""
    ids, desk = new_ids(), system("test")
    async with opened(accounts, "one") as one, opened(accounts, "two") as two:
        first = [
            d.order
            for d in await put(one, ids, *(request(ids, asker=a) for a in (INVESTOR, OTHER)))
            if isinstance(d, Done)
        ]

        async def report(round_: int) -> None:
            def acknowledge(unit: Unit) -> None:
                for order in first[:: (-1) ** round_]:
                    fact = facts.Report(event=None, last_qty=1, last_micros=1, venue_seq=round_ + 1)
                    unit.record(facts.apply(unit.orders[order.id], fact, NOW_US), change(ids))

            await (one, two)[round_ % 2].write(desk, Want(orders=frozenset(o.id for o in first)), acknowledge)

        async def place_both(round_: int) -> None:
            askers = (INVESTOR, OTHER)[:: (-1) ** round_]
            await put((two, one)[round_ % 2], ids, *(request(ids, asker=a) for a in askers))

        await asyncio.gather(*(work(i) for i in range(30) for work in (report, place_both)))
        for asker in (INVESTOR, OTHER):
            assert asker.account_id is not None
            events = await one.events_since(BACK_OFFICE, asker.account_id, 0, 1000)
            assert [e.account_seq for e in events] == list(range(1, 62))
        for order in first:
            found = await one.find(BACK_OFFICE, order.id)
            assert found is not None
            assert (found.cum_qty, found.version) == (30, 31)


async def test_a_decision_reads_what_was_committed_while_it_waited_for_the_lock(accounts: str) -> None:
    """The key is read in a statement after the one that locks: a single statement would read the state before."""
    ids = new_ids()
    async with opened(accounts, "one") as one, await psycopg.AsyncConnection.connect(accounts) as other:
        await other.execute("SELECT 1 FROM accounts WHERE id = 1 FOR UPDATE")
        waiting = asyncio.create_task(put(one, ids, request(ids, key="k")))
        await eventually("the batch waits for the lock", lambda: _blocked(accounts), 10, 0.01)
        unit = Unit(accounts={1: Account(1, "active", 0)})
        first = place.decide(unit, request(ids, key="k"), LISTINGS, LIMITS, NOW_US, ids)
        await orders_pg._save(other, unit)
        await other.commit()
        (answer,) = await waiting
    assert isinstance(answer, Done)
    assert isinstance(first, Done)
    assert (answer.replayed, answer.order) == (True, first.order)


async def _blocked(dsn: str) -> bool:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        row = await cursor.fetchone()
        return bool(row and row[0])


PLANS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("lock accounts", sql.LOCK_ACCOUNTS, ([1],)),
    ("lock accounts of orders", sql.LOCK_ACCOUNTS_OF_ORDERS, ([1], ["01890000-0000-7000-8000-000000000001"])),
    ("keys", sql.LOAD_KEYS, ([1], ["k"])),
    ("orders", sql.LOAD_ORDERS, (["01890000-0000-7000-8000-000000000001"],)),
    ("fills", sql.LOAD_FILLS, (["01890000-0000-7000-8000-000000000001"], ["E"])),
    ("accounts", sql.SAVE_ACCOUNTS, ("[]", 0)),
    ("update", sql.UPDATE_ORDERS, ("[]", 0)),
]


@pytest.mark.parametrize(("statement", "values"), [p[1:] for p in PLANS], ids=[p[0] for p in PLANS])
async def test_plans_made_on_empty_tables_use_the_indexes(
    orders_db: str, statement: str, values: tuple[Any, ...]
) -> None:
    async with opened(orders_db, "plans") as store, driver(store.writes) as connection:
        cursor = await connection.execute(b"EXPLAIN (COSTS OFF) " + statement.encode(), values)
        plan = [str(row[0]).strip() for row in await cursor.fetchall()]
    lines = "\n".join(plan)
    assert "Seq Scan" not in lines
    # Each index is entered with a condition: an index read whole is a scan by another name.
    for i, line in enumerate(plan):
        if "Index Scan" in line:
            assert plan[i + 1].startswith("Index Cond"), lines


async def test_events_cannot_be_changed(accounts: str) -> None:
    ids = new_ids()
    async with opened(accounts, "one") as one:
        await put(one, ids, request(ids))
    async with await psycopg.AsyncConnection.connect(accounts) as connection:
        for statement in ("UPDATE order_events SET cause = 'x'", "DELETE FROM order_events"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                await connection.execute(statement.encode())
            await connection.rollback()


async def test_a_lost_connection_is_not_given_out_again(accounts: str) -> None:
    ids = new_ids()
    async with opened(accounts, "mine") as one:
        await put(one, ids, request(ids))
        async with await psycopg.AsyncConnection.connect(accounts, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mine'"
            )
        with pytest.raises((psycopg.OperationalError, ConnectionError)):
            await put(one, ids, request(ids, key="k"))
        (done,) = await put(one, ids, request(ids, key="k"))
        assert isinstance(done, Done)
        assert len(await one.page(INVESTOR, Filter())) == 2


def test_the_seed_can_be_repeated(orders_db: str) -> None:
    script = (
        "import sys; from order_service import seed; from infra.settings import Infra;"
        "Infra.dsn = lambda self, name: sys.argv[1]; seed.main({}); seed.main({})"
    )
    subprocess.run([sys.executable, "-c", script, orders_db], check=True, timeout=60)
    with psycopg.connect(orders_db) as connection:
        rows = connection.execute("SELECT id, status, account_seq FROM accounts ORDER BY id").fetchall()
    assert rows == [(number, "active", 0) for number in range(1, 6)]


async def test_the_doors_and_the_worker_on_kafka(
    servers: Infra, orders_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POST → PostgreSQL; a report from Kafka → the order; the event from Kafka → the follower."""
    monkeypatch.setattr(Infra, "dsn", lambda self, name: orders_db)
    await add_accounts(orders_db, [(1, "Account 1")])
    settings, stop = OrderSettings(infra=servers), asyncio.Event()
    bus = KafkaBus(servers.bootstrap, "test")
    producer = bus.producer()
    async with app.open_doors(settings, stop) as doors, app.opened(settings, stop) as service:
        running = asyncio.create_task(run_parts({**doors.parts, **service.parts}, stop))
        await producer.send(INSTRUMENTS, b"AAPL", encode(Instrument("AAPL", "Apple", 10_000, 1, 1)))
        await eventually("the doors are ready", lambda: _all_ready(doors), 30, 0.05)
        good: dict[str, Any] = {"order_type": "buy", "type_": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "DAY"}
        done = await doors.desk.place(INVESTOR, **good, amount=Decimal("580.25"), key="k")
        assert (await doors.desk.place(INVESTOR, **good, amount=Decimal("580.25"), key="k")).replayed
        follower = doors.fanout.follow(1)
        for said in (report(done.order, "NEW", venue_seq=1), *[fill(done.order, 10, 580_000_000, 2)] * 2):
            await producer.send(ORDER_STATUS, done.order.id.encode(), encode(said))

        async def filled() -> bool:
            found = await doors.store.find(INVESTOR, done.order.id)
            return found is not None and found.status is Status.FILLED and found.version == 3

        await eventually("the reports are applied", filled, 30, 0.05)
        for event in await doors.store.events(INVESTOR, done.order.id):
            await producer.send(ORDER_EVENTS, b"1", event.payload.encode())
        async with asyncio.timeout(30):
            frames = [await follower.following() for _ in range(3)]
        assert [frame and frame.seq for frame in frames] == [1, 2, 3]
        stop.set()
        await running
    await producer.close()


async def _all_ready(doors: app.OrderDoors) -> bool:
    return all(ready() for ready in doors.ready.values())
