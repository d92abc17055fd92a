"""Checkpoints, in memory and in PostgreSQL, and the lease that guards what they are for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from infra.clock import SystemClock
from infra.db import TRANSIENT, Checkpoints, MemoryCheckpoints, PgCheckpoints, driver, engine, leased

DEADLINE_S = 20.0
TAKE_OVER_S = 5.0


@pytest.fixture(params=["memory", pytest.param("pg", marks=pytest.mark.real)])
async def checkpoints(request: pytest.FixtureRequest) -> AsyncIterator[Checkpoints]:
    if request.param == "memory":
        yield MemoryCheckpoints()
        return
    source = engine(request.getfixturevalue("orders_db"), "test")
    yield PgCheckpoints(source)
    await source.dispose()


class TestEveryCheckpoints:
    async def test_there_is_none_at_first(self, checkpoints: Checkpoints) -> None:
        assert await checkpoints.read("feed") is None

    async def test_the_last_one_counts(self, checkpoints: Checkpoints) -> None:
        for position in ("1", "2", "", "it's 3 \u00e9"):
            await checkpoints.write("feed", position)
            assert await checkpoints.read("feed") == position

    async def test_names_do_not_touch_each_other(self, checkpoints: Checkpoints) -> None:
        await checkpoints.write("feed", "1")
        await checkpoints.write("drop_copy", "2")
        assert (await checkpoints.read("feed"), await checkpoints.read("drop_copy")) == ("1", "2")


class Holder:
    """A part that says whether it runs, and how many ran at the same time at most."""

    running: int = 0
    most: int = 0

    def __init__(self) -> None:
        self.active = False

    async def part(self, stop: asyncio.Event) -> None:
        self.active = True
        Holder.running += 1
        Holder.most = max(Holder.most, Holder.running)
        try:
            await stop.wait()
        finally:
            self.active = False
            Holder.running -= 1


@contextlib.asynccontextmanager
async def held(dsn: str, holder: Holder) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(leased(f"{dsn}?application_name=holder", "work", holder.part)(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def until(condition: Callable[[], bool]) -> None:
    never = asyncio.Event()
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.01)


@pytest.mark.real
class TestLease:
    async def test_only_one_holder_runs_and_the_other_takes_over(self, orders_db: str) -> None:
        Holder.most = 0
        one, two = Holder(), Holder()
        async with held(orders_db, one) as stop_one:
            await until(lambda: one.active)
            async with held(orders_db, two):
                await until(lambda: _sessions(orders_db) == 2)
                assert not two.active
                stop_one.set()
                began_s = SystemClock().monotonic_s()
                await until(lambda: two.active)
                assert SystemClock().monotonic_s() - began_s < TAKE_OVER_S
                assert not one.active
        assert Holder.most == 1

    async def test_a_lost_connection_ends_the_part_and_another_holder_runs(self, orders_db: str) -> None:
        one, two = Holder(), Holder()
        async with held(orders_db, one):
            await until(lambda: one.active)
            async with held(orders_db, two):
                await until(lambda: _sessions(orders_db) == 2)
                began_s = SystemClock().monotonic_s()
                _kill_holder_of_the_lock(orders_db)
                await until(lambda: not one.active)
                await until(lambda: one.active or two.active)
                assert SystemClock().monotonic_s() - began_s < TAKE_OVER_S

    async def test_a_part_that_fails_is_heard_and_gives_the_lease_back(self, orders_db: str) -> None:
        async def failing(stop: asyncio.Event) -> None:
            raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            await leased(orders_db, "work", failing)(asyncio.Event())
        other = Holder()
        async with held(orders_db, other):
            await until(lambda: other.active)

    async def test_a_cancelled_holder_ends_its_part(self, orders_db: str) -> None:
        holder = Holder()
        task = asyncio.ensure_future(leased(orders_db, "work", holder.part)(asyncio.Event()))
        await until(lambda: holder.active)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not holder.active


@pytest.mark.real
async def test_a_restarted_server_costs_one_failure_not_one_per_connection(orders_db: str) -> None:
    source = engine(orders_db, "pooled", connections_max=4)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(driver(source))
    with psycopg.connect(orders_db, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'pooled'")
    failures = 0
    for _ in range(5):
        try:
            async with driver(source) as connection:
                await connection.execute("SELECT 1")
        except TRANSIENT:
            failures += 1
    assert failures == 1
    await source.dispose()


async def test_an_unreachable_server_is_transient_trouble() -> None:
    source = engine("postgresql://nobody@127.0.0.1:1/nowhere", "test")
    with pytest.raises(TRANSIENT):
        async with driver(source):
            pass
    await source.dispose()


def _sessions(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holder' AND datname = current_database()"
        )
        row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0


def _kill_holder_of_the_lock(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
