"""What every source of outbox rows does: the write-ahead log, the polled table, the store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Protocol

import psycopg
import pytest

from infra.clock import SystemClock
from infra.db import MemoryCheckpoints
from infra.outbox import OutboxRow, Record, record_of
from outbox_relay.polling_pg import Poller
from outbox_relay.relay import Entry, OpenSource, Source
from outbox_relay.source_memory import MemoryReader
from outbox_relay.wal_pg import WalReader
from tests.outbox_rows import INSERT, columns_of, made_row

DEADLINE_S = 20.0


class Rig(Protocol):
    open: OpenSource

    def commit(self, rows: list[OutboxRow]) -> None:
        """One transaction."""
        ...


class MemoryRig:
    def __init__(self) -> None:
        self._rows: list[OutboxRow] = []
        self._changed = asyncio.Event()
        self.open: OpenSource = MemoryReader(self).open

    def commit(self, rows: list[OutboxRow]) -> None:
        self._rows += rows
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def unpublished(self, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        return list(enumerate(self._rows[after : after + limit], after + 1))

    async def outbox_changed(self) -> None:
        await self._changed.wait()


class PgRig:
    def __init__(self, dsn: str, opened: OpenSource) -> None:
        self._dsn = dsn
        self.open = opened

    def commit(self, rows: list[OutboxRow]) -> None:
        with psycopg.connect(self._dsn) as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT, [columns_of(row) for row in rows])


@pytest.fixture(params=["memory", *[pytest.param(mode, marks=pytest.mark.real) for mode in ("cdc", "polling")]])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        return MemoryRig()
    dsn: str = request.getfixturevalue("orders_db")
    if request.param == "polling":
        return PgRig(dsn, Poller(dsn, MemoryCheckpoints(), poll_s=0.01).open)
    reader = WalReader(dsn, MemoryCheckpoints(), SystemClock(), f"slot_{uuid.uuid4().hex[:12]}")
    return PgRig(dsn, reader.open)


@contextlib.asynccontextmanager
async def opened(rig: Rig) -> AsyncIterator[Source]:
    async with rig.open(asyncio.Event()) as source:
        assert source is not None
        yield source


async def given(source: Source, count: int) -> list[Entry]:
    """The entries up to and including the place behind the `count`-th row."""
    found: list[Entry] = []
    async with asyncio.timeout(DEADLINE_S):
        while sum(entry.record is not None for entry in found) < count or found[-1].position is None:
            found += await source.entries(0.2)
    return found


def records_of(entries: list[Entry]) -> list[Record]:
    return [entry.record for entry in entries if entry.record is not None]


def records(rows: list[OutboxRow]) -> list[Record]:
    return [record_of(row) for row in rows]


def last_position(entries: list[Entry]) -> int:
    return max(entry.position for entry in entries if entry.position is not None)


class TestEverySource:
    async def test_gives_committed_rows_in_order_and_whole(self, rig: Rig) -> None:
        odd = OutboxRow(str(uuid.uuid4()), "t'opic", "ключ\n", "A\tB", '{"é": "\\u0000 \\\\ 😀"}' * 20_000, "", "x")
        rows = [made_row(0), odd, *(made_row(i) for i in range(2, 12))]
        rig.commit(rows[:5])
        rig.commit(rows[5:])
        async with opened(rig) as source:
            assert records_of(await given(source, 12)) == records(rows)

    async def test_rows_that_come_while_it_is_open(self, rig: Rig) -> None:
        async with opened(rig) as source:
            assert records_of(await source.entries(0.05)) == []
            for i in range(3):
                rig.commit([made_row(i)])
                found = await given(source, 1)
                assert records_of(found) == records([made_row(i)])
                await source.confirm(last_position(found))

    async def test_what_was_not_confirmed_comes_again(self, rig: Rig) -> None:
        rig.commit([made_row(0), made_row(1)])
        for _ in range(2):
            async with opened(rig) as source:
                assert records_of(await given(source, 2)) == records([made_row(0), made_row(1)])

    async def test_what_was_confirmed_never_comes_again(self, rig: Rig) -> None:
        async with opened(rig) as source:
            assert records_of(await source.entries(0.05)) == []
            rig.commit([made_row(0)])
            await source.confirm(last_position(await given(source, 1)))
        rig.commit([made_row(1)])
        async with opened(rig) as source:
            assert records_of(await given(source, 1)) == records([made_row(1)])

    async def test_positions_rise(self, rig: Rig) -> None:
        for i in range(6):
            rig.commit([made_row(2 * i), made_row(2 * i + 1)])
        async with opened(rig) as source:
            positions = [entry.position for entry in await given(source, 12) if entry.position is not None]
            assert positions == sorted(set(positions))

    async def test_a_pause_is_short_and_a_cancelled_wait_harmless(self, rig: Rig) -> None:
        async with opened(rig) as source:
            waiting = asyncio.ensure_future(source.entries(60))
            await asyncio.wait({waiting}, timeout=0.1)
            waiting.cancel()
            await asyncio.wait({waiting})
            rig.commit([made_row(0)])
            found = records_of(waiting.result()) if not waiting.cancelled() else []
            assert found + records_of(await given(source, 1 - len(found)) if not found else []) == records(
                [made_row(0)]
            )
