"""The relay on real PostgreSQL and Kafka: nothing lost, nothing invented, the order of each key, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import AsyncConnection

from infra.bus_kafka import KafkaBus
from infra.clock import SystemClock
from infra.db import MemoryCheckpoints, PgCheckpoints, engine
from infra.stack.settings import as_environ
from outbox_relay import slot_pg
from outbox_relay.relay import Entry, Relay
from outbox_relay.wal_pg import WalReader
from tests.outbox_rows import INSERT, columns_of, made_row
from tests.relay_scene import (
    DEADLINE_S,
    TAKE_OVER_S,
    Reader,
    Scene,
    check,
    killed_midway,
    running,
    until,
    write_all,
)

pytestmark = pytest.mark.real


@pytest.mark.parametrize("mode", ["cdc", "polling"])
async def test_concurrent_writers(scene: Scene, reader: Reader, mode: str) -> None:
    async with running(scene, mode):
        await write_all(scene)
        await until(lambda: reader.has_all(scene), reader)
    await reader.step()
    check(scene, reader)
    assert scene.rolled_back
    repeated = len(reader.ids) - len(set(reader.ids))
    assert repeated == 0 or mode == "cdc"  # rows that commit while the slot is new may come twice


@pytest.mark.parametrize("mode", ["cdc", "polling"])
async def test_a_relay_that_dies_midway(scene: Scene, reader: Reader, mode: str) -> None:
    writing = asyncio.create_task(write_all(scene))
    for _ in range(3):
        await killed_midway(scene, mode, reader)
    async with running(scene, mode):
        await writing
        await until(lambda: reader.has_all(scene), reader)
    check(scene, reader)


async def test_a_killed_process_and_the_one_that_waits_for_its_slot(scene: Scene, reader: Reader) -> None:
    async with process(scene) as first:
        scene.insert(0, 1, key="probe")
        await until(lambda: reader.has_all(scene), reader)
        async with process(scene) as second:
            writing = asyncio.create_task(write_all(scene))
            await until(lambda: len(reader.ids) > 100, reader)
            assert (first.returncode, second.returncode) == (None, None)
            first.send_signal(signal.SIGKILL)
            await first.wait()
            began_s, seen = SystemClock().monotonic_s(), len(reader.ids)
            scene.insert(1, 1, key="probe")
            probe = made_row(1, scene.topic, "probe").id
            await until(lambda: len(reader.ids) > seen + 50 and probe in reader.ids, reader)
            took_s = SystemClock().monotonic_s() - began_s
            await writing
            await until(lambda: reader.has_all(scene), reader)
            began_s = SystemClock().monotonic_s()
            second.terminate()
            assert await second.wait() == 0
            assert SystemClock().monotonic_s() - began_s < TAKE_OVER_S
    check(scene, reader)
    assert took_s < TAKE_OVER_S


@contextlib.asynccontextmanager
async def process(scene: Scene) -> AsyncIterator[asyncio.subprocess.Process]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = {
        "XGW_RELAY_DATABASE": urlsplit(scene.dsn).path.lstrip("/"),
        "XGW_RELAY_SLOT": scene.slot,
        "XGW_RELAY_PORT": str(port),
        "XGW_LOG_LEVEL": "ERROR",
    }
    environment = os.environ | as_environ(scene.infra) | ours
    started = await asyncio.create_subprocess_exec(sys.executable, "-m", "outbox_relay", env=environment)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_a_lost_replication_connection(scene: Scene, reader: Reader) -> None:
    async with running(scene):
        for first in range(0, 60, 20):
            scene.insert(first, 20)
            await until(lambda: reader.has_all(scene), reader)
            scene.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
    check(scene, reader)


async def test_rows_that_are_older_than_the_slot(scene: Scene, reader: Reader) -> None:
    scene.insert(0, 1200)
    async with running(scene):
        await until(lambda: reader.has_all(scene), reader)
        scene.insert(1200, 10)
        await until(lambda: reader.has_all(scene), reader)
    check(scene, reader)
    assert len(reader.ids) == 1210


async def test_a_death_while_catching_up(scene: Scene, reader: Reader) -> None:
    scene.insert(0, 3000)
    await killed_midway(scene, "cdc", reader)
    async with running(scene):
        await until(lambda: reader.has_all(scene), reader)
    check(scene, reader)


async def test_catching_up_shows_one_moment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages read at different moments would bring a row whose predecessor committed behind the page before."""
    monkeypatch.setattr(slot_pg, "PAGE_ROWS", 2)
    opened = WalReader(scene.dsn, MemoryCheckpoints(), SystemClock(), scene.slot).open
    async with opened(asyncio.Event()) as source:
        assert source is not None  # the slot exists, nothing is caught up: as after a death at this point
    first, second = made_row(100, scene.topic, "key"), made_row(101, scene.topic, "key")
    seen: list[str] = []
    with psycopg.connect(scene.dsn) as writer:
        writer.execute(INSERT, columns_of(first))
        scene.insert(0, 6)
        async with opened(asyncio.Event()) as source:
            assert source is not None
            seen += ids_of(await source.entries(1))
            writer.commit()
            writer.execute(INSERT, columns_of(second))
            writer.commit()
            async with asyncio.timeout(DEADLINE_S):
                while second.id not in seen:
                    seen += ids_of(await source.entries(1))
    assert seen.index(first.id) < seen.index(second.id)


def ids_of(entries: list[Entry]) -> list[str]:
    return [entry.record.headers[0][1].decode() for entry in entries if entry.record]


async def test_a_database_without_the_publication(scene: Scene) -> None:
    scene.execute("DROP PUBLICATION outbox")
    opened = WalReader(scene.dsn, MemoryCheckpoints(), SystemClock(), scene.slot).open
    with pytest.raises(psycopg.OperationalError, match="is the database migrated"):
        async with opened(asyncio.Event()):
            pass
    assert scene.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", scene.slot) == []


async def test_a_slot_that_was_dropped(scene: Scene, reader: Reader) -> None:
    async with running(scene):
        scene.insert(0, 10)
        await until(lambda: reader.has_all(scene), reader)
    scene.execute("SELECT pg_drop_replication_slot(%s)", scene.slot)
    scene.insert(10, 10)
    async with running(scene):
        await until(lambda: reader.has_all(scene), reader)
    check(scene, reader)


async def test_a_clean_stop_leaves_nothing_to_repeat(scene: Scene, reader: Reader) -> None:
    for first in range(0, 100, 25):
        async with running(scene):
            scene.insert(first, 25)
            await until(lambda: reader.has_all(scene), reader)
    await reader.step()
    assert sorted(reader.ids) == sorted([*scene.committed]), "a row came twice although each relay ended cleanly"


async def test_a_busy_neighbour_database_does_not_hold_the_log(scene: Scene, prices_db: str) -> None:
    behind = "SELECT pg_wal_lsn_diff(%s, confirmed_flush_lsn) <= 0 FROM pg_replication_slots WHERE slot_name = %s"
    async with running(scene):
        await until(lambda: bool(scene.execute("SELECT 1 FROM pg_replication_slots WHERE active")))
        with psycopg.connect(prices_db, autocommit=True) as neighbour:
            neighbour.execute("CREATE TABLE busy AS SELECT generate_series(1, 50000)")
        ((here,),) = scene.execute("SELECT pg_current_wal_lsn()::text")
        await until(lambda: scene.execute(behind, here, scene.slot) == [(True,)])


async def test_the_server_is_answered_while_the_bus_is_stuck(scene: Scene) -> None:
    name = urlsplit(scene.dsn).path.lstrip("/")
    scene.execute(f'ALTER DATABASE "{name}" SET wal_sender_timeout = 2000')
    source = engine(scene.dsn, "test", connections_max=1)
    unreachable = KafkaBus("127.0.0.1:1", "test")
    reader = WalReader(scene.dsn, PgCheckpoints(source), SystemClock(), scene.slot)
    stop = asyncio.Event()
    part = asyncio.ensure_future(Relay(unreachable, reader.open, SystemClock(), unacknowledged_max=10).run(stop))
    senders = "SELECT pid, extract(epoch FROM clock_timestamp() - backend_start) FROM pg_stat_replication"
    await until(lambda: len(scene.execute(senders)) == 1)
    ((pid, _),) = scene.execute(senders)
    await asyncio.to_thread(scene.insert, 0, 200)
    await until(lambda: any(age_s > 6 for _, age_s in scene.execute(senders)))
    assert scene.execute(senders)[0][0] == pid, "the server dropped the connection in between"
    stop.set()
    await asyncio.wait_for(part, TAKE_OVER_S)
    await source.dispose()


async def test_how_long_a_row_takes(scene: Scene, reader: Reader) -> None:
    """A figure to look at, not a limit: from the insert's sending to the record's reading, one row at a time."""
    clock, taken_ms = SystemClock(), []
    async with running(scene), await AsyncConnection.connect(scene.dsn, autocommit=True) as connection:
        for i in range(400):
            row = made_row(i, scene.topic)
            began_s = clock.monotonic_s()
            await connection.execute(INSERT, columns_of(row))
            await until(lambda row=row: row.id in reader.ids, reader)  # type: ignore[misc]
            taken_ms.append((clock.monotonic_s() - began_s) * 1000)
            reader.messages.clear()
    taken_ms = sorted(taken_ms[100:])
    print(f"insert sent → consumed, ms: p50 {taken_ms[150]:.2f}, p99 {taken_ms[297]:.2f}, most {taken_ms[-1]:.2f}")
