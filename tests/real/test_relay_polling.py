"""Sixteen writers against each way to read the outbox, the naive one included; shards; changes of the mode."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from infra.db import PgCheckpoints, engine
from outbox_relay.partitions_pg import Partitions, Plan
from tests.outbox_rows import INSERT, columns_of, made_row
from tests.relay_scene import Reader, Scene, check, relay_of, running, until, write_all

pytestmark = pytest.mark.real

WRITERS = 16
INSERT_AGED = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, now() - interval '1 day' * %s)
"""


def insert_aged(scene: Scene, first: int, count: int, days: int) -> set[str]:
    rows = [made_row(i, scene.topic) for i in range(first, first + count)]
    for i, row in enumerate(rows, first):
        scene.execute(INSERT_AGED, *columns_of(row), days)
        scene.committed[row.id] = (row.aggregateid, i)
    return {row.id for row in rows}


@pytest.mark.parametrize(("mode", "shards"), [("naive", 1), ("cdc", 1), ("polling", 1), ("polling", 4)])
async def test_sixteen_writers(scene: Scene, reader: Reader, mode: str, shards: int) -> None:
    async with running(scene, mode, shards):
        await write_all(scene, WRITERS)
        if mode != "naive":
            await until(lambda: reader.has_all(scene), reader)
    await reader.step()
    if mode == "naive":
        scene.insert(0, 1, key="last")  # nothing of it is on its way any more
        lost = scene.committed.keys() - set(reader.ids)
        assert len(lost) > 1, "the naive poller must lose rows, or this test proves nothing"
    else:
        check(scene, reader)


@pytest.mark.parametrize("mode", ["naive", "cdc", "polling"])
async def test_two_transactions_that_commit_out_of_order(scene: Scene, reader: Reader, mode: str) -> None:
    early, late = made_row(1, scene.topic, "early"), made_row(2, scene.topic, "late")
    async with running(scene, mode):
        scene.insert(0, 1)
        await until(lambda: reader.has_all(scene), reader)
        with psycopg.connect(scene.dsn) as first, psycopg.connect(scene.dsn) as second:
            first.execute(INSERT, columns_of(early))
            second.execute(INSERT, columns_of(late))
            second.commit()
            await until(lambda: late.id in reader.ids, reader)
            first.commit()
        scene.insert(3, 1)
        wanted = scene.committed.keys() | ({early.id} if mode != "naive" else set())
        await until(lambda: set(reader.ids) >= wanted, reader)
    await reader.step()
    assert (early.id in reader.ids) is (mode != "naive"), "the naive poller must lose it, or this test proves nothing"


async def test_the_shards_of_a_dead_process_are_taken_over(scene: Scene, reader: Reader) -> None:
    async with relay_of(scene, "polling", 4) as first, running(scene, "polling", 4):
        dying = asyncio.ensure_future(first(asyncio.Event()))
        writing = asyncio.create_task(write_all(scene))
        await until(lambda: len(reader.ids) > 100, reader)
        dying.cancel()
        await asyncio.wait({dying})
        await writing
        await until(lambda: reader.has_all(scene), reader)
    check(scene, reader)


async def test_from_the_log_to_polling_and_back(scene: Scene, reader: Reader) -> None:
    """What the log's relay published long ago is not published again; what came in between is not lost."""
    async with running(scene, "cdc"):
        past = insert_aged(scene, 0, 40, days=1)
        await until(lambda: reader.has_all(scene), reader)
    between = insert_aged(scene, 40, 5, days=0)
    async with running(scene, "polling", shards=2):
        await until(lambda: reader.has_all(scene), reader)
        scene.insert(45, 20)
        await until(lambda: reader.has_all(scene), reader)
    await reader.step()
    assert {reader.ids.count(row_id) for row_id in past | between} == {1}

    unpublished = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    assert scene.execute(unpublished) == [(0,)]
    source = engine(scene.dsn, "test")
    await Partitions(scene.dsn, PgCheckpoints(source), Plan(), scene.slot, is_polled=True).tend()
    await source.dispose()
    slots = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
    assert scene.execute(slots, scene.slot) == [], "unread, it would keep the log"
    scene.insert(65, 5)
    async with running(scene, "cdc"):
        scene.insert(70, 5)
        await until(lambda: reader.has_all(scene), reader)
    check(scene, reader)
    assert {reader.ids.count(row_id) for row_id in past} == {1}


async def test_the_pollers_mark_never_passes_an_unpublished_row(scene: Scene) -> None:
    source = engine(scene.dsn, "test")
    checkpoints = PgCheckpoints(source)
    partitions = Partitions(scene.dsn, checkpoints, Plan(retention=timedelta(0)), scene.slot, is_polled=True)
    scene.execute("CREATE TABLE old PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')")
    row = made_row(1, scene.topic)
    scene.execute(INSERT_AGED, *columns_of(row), 0)
    scene.execute("UPDATE outbox SET created_at = '2020-01-15'")
    await partitions.tend()
    assert scene.execute("SELECT count(*) FROM old") == [(1,)]
    scene.execute("UPDATE outbox SET published_at = now()")
    await partitions.tend()
    await source.dispose()
    assert scene.execute("SELECT to_regclass('old')") == [(None,)]
