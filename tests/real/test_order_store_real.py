"""The order store on a real server: concurrency between processes, plans, constraints, the seed."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest

from infra.clock import Ids, ManualClock
from infra.db import driver
from order_service.domain.ledger import Balance
from order_service.domain.order import Order
from order_service.store import orders_pg
from order_service.store import statements_pg as sql
from order_service.store.arrays_pg import Bigints, Texts, Uuids, adapt
from order_service.store.books_pg import PgBooks
from order_service.store.funding import DEMO_FUNDS, Funds, deposits, fund
from order_service.store.order_json import rebuilt
from order_service.store.orders_pg import add_accounts, opened
from order_service.store.ports import Filter
from order_service.store.unit import Account, Unit, Want
from tests.flow.walking import eventually
from tests.real.order_writer import ACCOUNTS
from tests.stored_orders import (
    BACK_OFFICE,
    DESK,
    INVESTOR,
    NOW_US,
    USD,
    change,
    new_ids,
    order,
    placed,
)

pytestmark = pytest.mark.real


@pytest.fixture
async def accounts(orders_db: str) -> str:
    await add_accounts(orders_db, [(number, f"Account {number}") for number in ACCOUNTS])
    return orders_db


def keyed(unit: Unit, new: Order, ids: Ids) -> Order:
    """The decision of a desk: the first request of a key makes the order, the others find it."""
    return unit.first_of_key(new.account_id, new.idempotency_key) or unit.record(new, change(ids))


def of_key(new: Order) -> Want:
    return Want(accounts=frozenset({new.account_id}), keys=frozenset({(new.account_id, new.idempotency_key)}))


async def test_simultaneous_writes_of_one_key_make_one_order(accounts: str) -> None:
    ids = new_ids()
    async with opened(accounts, "one") as one, opened(accounts, "two") as two:
        new = [order(str(ids.uuid7()), idempotency_key=f"k{i % 8}") for i in range(64)]
        done = await asyncio.gather(
            *((one, two)[i % 2].write(DESK, of_key(n), partial(keyed, new=n, ids=ids)) for i, n in enumerate(new))
        )
        assert len({stored.id for stored in done}) == 8
        assert len(await one.page(INVESTOR, Filter())) == 8


async def test_two_processes_on_the_same_accounts_neither_deadlock_nor_lose_a_reservation(accounts: str) -> None:
    """Batches lock the accounts in key order and read what they decide on in later statements."""
    async with opened(accounts, "check") as store:
        books = PgBooks(store, ManualClock(NOW_US * 1000))
        for number in ACCOUNTS:
            await fund(books, BACK_OFFICE, number, Funds(100 * USD, {"AAPL": 20, "SPY": 20}))
        args = ("-m", "tests.real.order_writer", accounts)
        writers = [
            await asyncio.create_subprocess_exec(sys.executable, *args, seed, "60", stdout=subprocess.PIPE)
            for seed in ("1", "2")
        ]
        placed = [int((await writer.communicate())[0]) for writer in writers]
        assert [writer.returncode for writer in writers] == [0, 0]
        assert min(placed) > 0
        assert await books.differences() == []
        for number in ACCOUNTS:
            account = await books.account(BACK_OFFICE, number)
            assert account is not None
            assert account.cash.available + account.cash.unsettled >= 0
            for balance in (await books.positions(BACK_OFFICE, number)).values():
                assert balance.available + balance.unsettled >= 0
            events = await store.events_since(BACK_OFFICE, number, 0, 10_000)
            assert [e.account_seq for e in events] == list(range(1, account.seq + 1))
        orders = await store.page(BACK_OFFICE, Filter(limit=10_000))
        assert len(orders) == sum(placed)
        for one in orders:
            assert rebuilt([event.payload for event in await store.events(BACK_OFFICE, one.id)]) == one


async def test_a_decision_reads_what_was_committed_while_it_waited_for_the_lock(accounts: str) -> None:
    """Keys and positions are read in statements after the one that locks: one statement would read the state before."""
    ids = new_ids()
    first, second = order(str(ids.uuid7()), idempotency_key="k"), order(str(ids.uuid7()), idempotency_key="k")
    async with opened(accounts, "one") as one, await psycopg.AsyncConnection.connect(accounts) as other:
        await other.execute("SELECT 1 FROM accounts WHERE id = 1 FOR UPDATE")
        want = replace(of_key(second), positions=frozenset({(1, "AAPL")}))
        waiting = asyncio.create_task(
            one.write(DESK, want, lambda unit: (keyed(unit, second, ids), unit.position(1, "AAPL")))
        )
        await eventually("the batch waits for the lock", lambda: _blocked(accounts), 10, 0.01)
        unit = Unit(accounts={1: Account(1)})
        unit.record(first, change(ids))
        unit.book(deposits(1, Funds(0, {"AAPL": 5})), str(ids.uuid7()), None, NOW_US)
        adapt(other)
        await orders_pg._save(other, unit)
        await other.commit()
        found, position = await waiting
    assert found == replace(first, account_seq=1)
    assert position == Balance(5)


async def _blocked(dsn: str) -> bool:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        row = await cursor.fetchone()
        return bool(row and row[0])


ORDER = "01890000-0000-7000-8000-000000000001"
PLANS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("accounts_pkey", sql.LOCK_ACCOUNTS, (Bigints([1]),)),
    ("accounts_pkey orders_pkey", sql.LOCK_ACCOUNTS_OF_ORDERS, (Bigints([1]), Uuids([ORDER]))),
    ("orders_key", sql.LOAD_KEYS, (Bigints([1]), Texts(["k"]))),
    ("orders_pkey", sql.LOAD_ORDERS, (Uuids([ORDER]),)),
    ("executions_of_fill", sql.LOAD_EXECUTIONS, (Uuids([ORDER]), Texts(["E"]))),
    ("positions_pkey", sql.LOAD_POSITIONS, (Bigints([1]), Texts(["AAPL"]))),
    ("orders_pkey positions_pkey", sql.LOAD_POSITIONS_OF_ORDERS, (Uuids([ORDER]),)),
    ("accounts_pkey", sql.SAVE_ACCOUNTS, ("[]", 0)),
    ("orders_pkey", sql.UPDATE_ORDERS, ("[]", Bigints([]), 0)),
]


@pytest.mark.parametrize(("indexes", "statement", "values"), PLANS)
async def test_plans_made_on_empty_tables_use_the_indexes(
    orders_db: str, indexes: str, statement: str, values: tuple[Any, ...]
) -> None:
    async with opened(orders_db, "plans") as store, driver(store.writes) as connection:
        cursor = await connection.execute(b"EXPLAIN (COSTS OFF) " + statement.encode(), values)
        plan = [str(row[0]).strip() for row in await cursor.fetchall()]
    lines = "\n".join(plan)
    assert "Seq Scan" not in lines
    assert set(re.findall(r"Index (?:Only )?Scan (?:using|on) (\w+)", lines)) == set(indexes.split())
    # Each index is entered with a condition: an index read whole is a scan by another name.
    for i, line in enumerate(plan):
        if "Index Scan" in line:
            assert plan[i + 1].startswith("Index Cond"), lines


@pytest.mark.parametrize("table", ["order_events", "ledger"])
async def test_history_cannot_be_changed(accounts: str, table: str) -> None:
    async with opened(accounts, "one") as one:
        await placed(one, new_ids())
    async with await psycopg.AsyncConnection.connect(accounts) as connection:
        for statement in (f"UPDATE {table} SET event_id = event_id", f"DELETE FROM {table}"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                await connection.execute(statement.encode())
            await connection.rollback()


async def test_an_account_is_never_deleted(accounts: str) -> None:
    """Orders have no foreign key to their account: it is locked when they are stored, and it stays."""
    async with await psycopg.AsyncConnection.connect(accounts) as connection:
        with pytest.raises(psycopg.errors.RaiseException, match="never deleted"):
            await connection.execute("DELETE FROM accounts WHERE id = 5")


async def test_a_lost_connection_is_not_given_out_again(accounts: str) -> None:
    ids = new_ids()
    async with opened(accounts, "mine") as one:
        await placed(one, ids)
        async with await psycopg.AsyncConnection.connect(accounts, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mine'"
            )
        with pytest.raises((psycopg.OperationalError, ConnectionError)):
            await placed(one, ids, idempotency_key="k")
        await placed(one, ids, idempotency_key="k")
        assert len(await one.page(INVESTOR, Filter())) == 2


def test_the_seed_can_be_repeated(orders_db: str) -> None:
    script = (
        "import sys; from order_service import seed; from infra.settings import Infra;"
        "Infra.dsn = lambda self, name: sys.argv[1]; seed.main({}); seed.main({})"
    )
    subprocess.run([sys.executable, "-c", script, orders_db], check=True, timeout=60)
    with psycopg.connect(orders_db) as connection:
        rows = connection.execute(
            "SELECT id, status, account_seq, cash_available_micros, (SELECT sum(available) FROM positions"
            " WHERE account_id = accounts.id) FROM accounts ORDER BY id"
        ).fetchall()
    shares = sum(DEMO_FUNDS.shares.values())
    assert rows == [(number, "active", 0, DEMO_FUNDS.cash_micros, shares) for number in range(1, 6)]
