"""The outbox's partitions on real PostgreSQL: made ahead, dropped behind the mark, stray rows dealt with."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from infra.db import MemoryCheckpoints
from infra.telemetry import OUTBOX_PARTITIONS, OUTBOX_STRAY_ROWS
from outbox_relay.marks import Mark, nanoseconds
from outbox_relay.partitions_pg import Partitions, Plan
from tests.outbox_rows import INSERT, columns_of, made_row
from tests.relay_scene import Reader, Scene, check, running, until

pytestmark = pytest.mark.real

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
AT = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent, created_at)
VALUES (gen_random_uuid(), 'things', 'key', 'Thing', '{}', '', '', %s)"""
WHERE = "SELECT tableoid::regclass::text, count(*) FROM outbox GROUP BY 1 ORDER BY 1"


class Database:
    """The database of one test, its checkpoint in memory, and one round of the maintenance."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.checkpoints = MemoryCheckpoints()

    def rows(self, query: str, *arguments: object) -> list[tuple[object, ...]]:
        cursor = self.connection.execute(query, arguments or None)
        return cursor.fetchall() if cursor.description else []

    def tables(self) -> list[str]:
        found = self.rows("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox'::regclass")
        return sorted(str(name) for (name,) in found)

    async def published_until(self, moment: datetime) -> None:
        await self.checkpoints.write("slot", Mark(False, nanoseconds(moment)).text())

    async def tend(self, plan: Plan | None = None) -> None:
        await Partitions(self.dsn, self.checkpoints, plan or Plan(retention=timedelta(0)), "slot").tend()


@pytest.fixture
def database(orders_db: str) -> Iterator[Database]:
    made = Database(orders_db)
    yield made
    made.connection.close()


def name_of(moment: datetime) -> str:
    return f"outbox_p{moment:%Y%m%d}0000"


async def test_rows_of_today_have_a_partition_from_the_first_moment(database: Database) -> None:
    database.rows(AT, datetime.now(UTC))
    ((table, _),) = database.rows(WHERE)
    assert table != "outbox_default"


async def test_partitions_are_made_ahead_and_once(database: Database) -> None:
    before = database.tables()
    await database.tend()
    made = database.tables()
    assert len(made) == len(before) + 2
    assert OUTBOX_PARTITIONS._value.get() == len(made) - 1
    await database.tend()
    assert database.tables() == made
    await database.tend(Plan(length=timedelta(hours=6), ahead=20))
    assert len(database.tables()) > len(made), "another length goes on where the last partition ends"
    database.rows(AT, datetime.now(UTC) + 4 * DAY)
    ((table, _),) = database.rows(WHERE)
    assert table != "outbox_default"
    assert database.rows("SELECT pubviaroot FROM pg_publication WHERE pubname = 'outbox'") == [(True,)]


async def test_a_partition_goes_only_behind_the_mark_and_after_its_time(database: Database) -> None:
    database.rows("CREATE TABLE old PARTITION OF outbox FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-02 00:00Z')")
    old = datetime(2020, 1, 2, tzinfo=UTC)
    database.rows(AT, old - timedelta(hours=1))
    await database.tend()
    assert "old" in database.tables(), "nothing is known to be published"
    await database.published_until(old + timedelta(minutes=4))
    await database.tend()
    assert "old" in database.tables(), "a transaction that began before its end may commit five minutes later"
    await database.published_until(datetime.now(UTC))
    await database.tend(Plan(retention=datetime.now(UTC) - old + DAY))
    assert "old" in database.tables(), "it is kept for the retention"
    await database.tend()
    assert "old" not in database.tables()


async def test_a_drop_waits_for_writers_but_does_not_make_them_wait(database: Database) -> None:
    database.rows("CREATE TABLE old PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')")
    await database.published_until(datetime.now(UTC))
    with psycopg.connect(database.dsn) as writer:
        writer.execute(AT, (datetime.now(UTC),))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await database.tend()
    assert "old" in database.tables()
    await database.tend()
    assert "old" not in database.tables()


async def test_stray_rows_are_removed_once_they_are_published(database: Database) -> None:
    stray = datetime(2020, 1, 1, tzinfo=UTC)
    for _ in range(3):
        database.rows(AT, stray)
    await database.tend()
    assert database.rows(WHERE) == [("outbox_default", 3)]
    assert OUTBOX_STRAY_ROWS._value.get() == 3
    await database.published_until(datetime.now(UTC))
    await database.tend()
    assert database.rows(WHERE) == []
    assert OUTBOX_STRAY_ROWS._value.get() == 0


async def test_stray_rows_of_the_future_do_not_stop_their_partition(scene: Scene, reader: Reader) -> None:
    """They are moved in the transaction that attaches it, and nobody publishes them twice for that."""
    future = (NOW + 3 * DAY).replace(hour=12)
    async with running(scene):
        scene.insert(0, 1)
        await until(lambda: reader.has_all(scene), reader)
        row = made_row(1, scene.topic)
        scene.execute(
            INSERT.replace("traceparent)", "traceparent, created_at)").replace("%s)", "%s, %s)"),
            *columns_of(row),
            future,
        )
        scene.committed[row.id] = (row.aggregateid, 1)
        assert ("outbox_default", 1) in scene.execute(WHERE)
        await Partitions(scene.dsn, MemoryCheckpoints(), Plan(ahead=5), "slot").tend()
        assert (name_of(future), 1) in scene.execute(WHERE)
        scene.insert(2, 1)
        await until(lambda: reader.has_all(scene), reader)
    await reader.step()
    check(scene, reader)
    assert len(reader.ids) == 3


async def test_the_migration_of_a_server_that_has_rows(database: Database) -> None:
    """Its rows stay where they are; the new partitions begin with the next day."""
    migration = importlib.import_module("infra.migrations.orders.versions.0004_outbox_partitions")
    for table in database.tables():
        if table != "outbox_default":
            database.rows(f"DROP TABLE {table}")
    database.rows(AT, datetime.now(UTC))
    for _ in range(2):  # safe to repeat
        database.rows(migration.FIRST_PARTITIONS)
        assert database.tables() == ["outbox_default", name_of(datetime.now(UTC) + DAY)]
    await database.tend()
    database.rows(AT, datetime.now(UTC))
    assert database.rows(WHERE) == [("outbox_default", 2)]
