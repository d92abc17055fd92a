"""A server that keeps little of its log: slots that are really lost, and one that must not be."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from infra.bus import Delivered
from infra.bus_kafka import KafkaBus, KafkaProducer
from infra.clock import SystemClock
from infra.contracts import Headers
from infra.db import PgCheckpoints, engine
from infra.migrations import runner
from infra.stack import postgres
from infra.stack.stack import Stack, throwaway_settings
from infra.telemetry import SLOT_REPAIRS
from outbox_relay.relay import Relay
from outbox_relay.wal_pg import WalReader
from tests.relay_scene import DEADLINE_S, Reader, Scene, check, running, until

pytestmark = pytest.mark.real

KEPT_MB = 32
PASSED = "SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s"
STATUS = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"


@pytest.fixture(scope="module")
def little_log() -> Iterator[Stack]:
    """A PostgreSQL of its own. The limit is an option of its command line, so it cannot be changed on a running one."""
    settings = throwaway_settings(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(postgres.SERVER_SETTINGS, "max_slot_wal_keep_size", f"{KEPT_MB}MB")
        patch.setitem(postgres.SERVER_SETTINGS, "max_wal_size", "64MB")
        try:
            with Stack(settings, attached=True) as stack:
                stack.start(["postgres"])
                runner.upgrade("orders", settings.infra.dsn("orders"))
                yield stack
        finally:
            shutil.rmtree(settings.infra.run_dir, ignore_errors=True)


@pytest.fixture
def little(scene: Scene, little_log: Stack) -> Iterator[Scene]:
    """The scene on that server."""
    scene.dsn, scene.slot = little_log.settings.infra.dsn("orders"), f"slot_{uuid.uuid4().hex[:12]}"
    scene.execute("TRUNCATE outbox")
    yield scene
    scene.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")


def fill_log(stack: Stack, megabytes: int) -> None:
    """A busy neighbour: so much log of the other database, and a checkpoint, which is when slots are looked at."""
    infra = stack.settings.infra
    with psycopg.connect(infra.dsn("prices"), autocommit=True) as neighbour:
        neighbour.execute("CREATE TABLE busy AS SELECT repeat('x', 8000) FROM generate_series(1, %s)", (megabytes,))
        neighbour.execute("ALTER TABLE busy ALTER repeat SET STORAGE EXTERNAL")
        neighbour.execute("INSERT INTO busy SELECT repeat('x', 8000) FROM generate_series(1, %s)", (120 * megabytes,))
        neighbour.execute("DROP TABLE busy")
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        admin.execute("CHECKPOINT")


async def lose(scene: Scene, stack: Stack) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while scene.execute(STATUS, scene.slot) != [("lost",)]:
            await asyncio.to_thread(fill_log, stack, KEPT_MB)


async def test_a_slot_that_was_lost_while_nobody_read(little: Scene, little_log: Stack, reader: Reader) -> None:
    async with running(little):
        little.insert(0, 10)
        await until(lambda: reader.has_all(little), reader)
    little.insert(10, 10)
    await lose(little, little_log)
    little.insert(20, 10)
    repairs = SLOT_REPAIRS._value.get()
    async with running(little):
        await until(lambda: reader.has_all(little), reader)
        little.insert(30, 10)
        await until(lambda: reader.has_all(little), reader)
    check(little, reader)
    assert SLOT_REPAIRS._value.get() == repairs + 1
    assert little.execute(STATUS, little.slot) == [("reserved",)]


async def test_a_slot_that_was_lost_under_a_stuck_relay(little: Scene, little_log: Stack, reader: Reader) -> None:
    """The server ends the relay's connection; the same relay makes a new slot and goes on once the bus does."""
    bus = StuckBus(little.infra.bootstrap, "test")
    source = engine(little.dsn, "test", connections_max=1)
    relay = Relay(bus, WalReader(little.dsn, PgCheckpoints(source), SystemClock(), little.slot).open, SystemClock())
    stop = asyncio.Event()
    part = asyncio.ensure_future(relay.run(stop))
    little.insert(0, 10)
    await until(lambda: reader.has_all(little), reader)
    bus.is_stuck = True
    little.insert(10, 20)
    await until(lambda: bus.swallowed >= 20)
    await lose(little, little_log)
    bus.is_stuck = False
    little.insert(30, 10)
    await until(lambda: reader.has_all(little), reader)
    stop.set()
    await part
    await source.dispose()
    check(little, reader)


async def test_a_quiet_outbox_beside_a_busy_neighbour(little: Scene, little_log: Stack, reader: Reader) -> None:
    """Five times the log that the server keeps for a slot, all of it the neighbour's."""
    async with running(little):
        little.insert(0, 1)
        await until(lambda: reader.has_all(little), reader)
        for _ in range(10):
            ((here,),) = little.execute("SELECT pg_current_wal_lsn()::text")
            await asyncio.to_thread(fill_log, little_log, KEPT_MB // 2)
            await until(lambda here=here: little.execute(PASSED, here, little.slot) == [(True,)])  # type: ignore[misc]
            assert little.execute(STATUS, little.slot)[0][0] in ("reserved", "extended")
        little.insert(1, 1)
        await until(lambda: reader.has_all(little), reader)
    await reader.step()
    assert len(reader.ids) == len(set(reader.ids)) == 2, "the slot was lost and repaired"


class StuckBus(KafkaBus):
    """Takes records and says nothing, while it is stuck."""

    is_stuck = False
    swallowed = 0

    def producer(self, linger_ms: int = 0) -> KafkaProducer:
        return StuckProducer(self, self._common, linger_ms)


class StuckProducer(KafkaProducer):
    def __init__(self, bus: StuckBus, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._bus = bus

    def post(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, delivered: Delivered) -> None:
        if self._bus.is_stuck:
            self._bus.swallowed += 1
        else:
            super().post(topic, key, value, headers, delivered)
