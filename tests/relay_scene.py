"""A stage for the relay's tests on real servers: writers that do all that writers may, and a reader that checks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection

from infra.bus import Message, Subscription
from infra.bus_kafka import KafkaBus
from infra.clock import SystemClock
from infra.db import PgCheckpoints, engine, leased
from infra.process import Part
from infra.settings import Infra
from outbox_relay.decoder import COLUMNS, record_of_text
from outbox_relay.polling_pg import Poller, lease_of
from outbox_relay.relay import Entry, Relay, Source
from outbox_relay.wal_pg import WalReader
from tests.outbox_rows import INSERT, columns_of, made_row

DEADLINE_S = 60.0
WRITERS = 8
TAKE_OVER_S = 5.0
TRANSACTIONS = 60
KEYS = 10
OPEN_S_MAX = 0.04
COUNTERS = "CREATE TABLE counters (key text PRIMARY KEY, n int NOT NULL)"
COUNT = "UPDATE counters SET n = n + 1 WHERE key = %s RETURNING n"


@dataclass
class Scene:
    """A fresh database, a topic and a slot of one test."""

    infra: Infra
    dsn: str
    topic: str
    slot: str
    bus: KafkaBus
    committed: dict[str, tuple[str, int]] = field(default_factory=dict)
    rolled_back: set[str] = field(default_factory=set)
    commits: int = 0

    def execute(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def insert(self, first: int, count: int, key: str | None = None) -> None:
        """One transaction per row."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for i in range(first, first + count):
                row = made_row(i, self.topic, key)
                connection.execute(INSERT, columns_of(row))
                self.committed[row.id] = (row.aggregateid, i)


class Reader:
    """All that is on the topic."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.messages: list[Message] = []

    async def step(self) -> None:
        self.messages += await self.subscription.batch(1000, 0.02)

    @property
    def ids(self) -> list[str]:
        return [(message.header("event-id") or b"").decode() for message in self.messages]

    def has_all(self, scene: Scene) -> bool:
        return set(self.ids) >= scene.committed.keys()


async def until(condition: Callable[[], bool], reader: Reader | None = None, timeout_s: float = DEADLINE_S) -> None:
    never = asyncio.Event()
    async with asyncio.timeout(timeout_s):
        while not condition():
            if reader is not None:
                await reader.step()
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(never.wait(), 0.005)


def check(scene: Scene, reader: Reader) -> None:
    """Every committed row, none of the rolled back, each key in commit order; a repetition may go back, never ahead."""
    assert set(reader.ids) == scene.committed.keys()
    assert not set(reader.ids) & scene.rolled_back
    records = list(zip(reader.messages, reader.ids, strict=True))
    first_seen = list(dict.fromkeys(reader.ids))
    for key in {key for key, _ in scene.committed.values()}:
        order = [scene.committed[i][1] for i in first_seen if scene.committed[i][0] == key]
        assert order == sorted(order)
        assert {m.key for m, i in records if scene.committed[i][0] == key} == {key.encode()}


async def write(scene: Scene, seed: int) -> None:
    """Transactions of one to three rows; some stay open while others commit, some are rolled back. A counter per key,
    locked with its row until the commit, numbers the rows of a key in the order of their commits."""
    chance = random.Random(seed)
    async with await AsyncConnection.connect(scene.dsn) as connection:
        for number in range(TRANSACTIONS):
            rows: dict[str, tuple[str, int]] = {}
            for key in sorted(chance.sample(range(KEYS), chance.randint(1, 3))):
                counted = await (await connection.execute(COUNT, (f"key-{key}",))).fetchone()
                assert counted is not None
                row_id = str(uuid.uuid4())
                payload = json.dumps({"n": counted[0], "pad": "x" * chance.choice((0, 300, 20_000))})
                values = (row_id, scene.topic, f"key-{key}", "Thing", payload, f"ik-{seed}-{number}", "00-tp")
                await connection.execute(INSERT, values)
                rows[row_id] = (f"key-{key}", counted[0])
            if chance.random() < 0.2:
                await _others_commit(scene, 5)
            if chance.random() < 0.2:
                await connection.rollback()
                scene.rolled_back |= rows.keys()
                continue
            await connection.commit()
            scene.commits += 1
            scene.committed |= rows


async def _others_commit(scene: Scene, count: int) -> None:
    """Stay open until others committed; those who wait for our locks cannot, so not for long."""
    goal = scene.commits + count
    with contextlib.suppress(TimeoutError):
        await until(lambda: scene.commits >= goal, timeout_s=OPEN_S_MAX)


async def write_all(scene: Scene, writers: int = WRITERS) -> None:
    scene.execute(COUNTERS)
    for key in range(KEYS):
        scene.execute("INSERT INTO counters VALUES (%s, 0)", f"key-{key}")
    await asyncio.gather(*[write(scene, seed) for seed in range(writers)])


class NaiveSource:
    """Greater than the last number: what must not be done. Numbers are given before the commit."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._last = 0

    @contextlib.asynccontextmanager
    async def open(self, stop: asyncio.Event) -> AsyncIterator[Source | None]:
        yield self

    async def entries(self, wait_s: float) -> list[Entry]:
        async with await AsyncConnection.connect(self._scene.dsn, autocommit=True) as connection:
            columns = f"seq, {', '.join(COLUMNS)}"
            query = f"SELECT {columns} FROM outbox WHERE seq > {self._last} ORDER BY seq"
            rows = await (await connection.execute(query)).fetchall()
        self._last = rows[-1][0] if rows else self._last
        return [Entry(record_of_text(*map(str, row[1:])), row[0]) for row in rows]

    async def confirm(self, position: int) -> None:
        return None


@contextlib.asynccontextmanager
async def relay_of(scene: Scene, mode: str, shards: int = 1) -> AsyncIterator[Part]:
    """The relay's parts as its process runs them, on the scene's slot and checkpoint."""
    source, clock = engine(scene.dsn, "test", connections_max=2), SystemClock()
    checkpoints = PgCheckpoints(source)
    parts: list[Part] = []
    if mode == "naive":
        parts.append(Relay(scene.bus, NaiveSource(scene).open, clock).run)
    elif mode == "cdc":
        parts.append(Relay(scene.bus, WalReader(scene.dsn, checkpoints, clock, scene.slot).open, clock).run)
    else:
        opened = [Poller(scene.dsn, checkpoints, 0.01, n, shards, scene.slot).open for n in range(shards)]
        relays = [Relay(scene.bus, one, clock) for one in opened]
        parts += [leased(scene.dsn, lease_of(n), relay.run) for n, relay in enumerate(relays)]

    async def all_of(stop: asyncio.Event) -> None:
        await asyncio.gather(*[part(stop) for part in parts])

    yield all_of
    await source.dispose()


@contextlib.asynccontextmanager
async def running(scene: Scene, mode: str = "cdc", shards: int = 1) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with relay_of(scene, mode, shards) as part:
        task = asyncio.ensure_future(part(stop))
        try:
            yield stop
        finally:
            stop.set()
            async with asyncio.timeout(TAKE_OVER_S):
                await task


async def killed_midway(scene: Scene, mode: str, reader: Reader) -> None:
    """A relay that is cancelled, without a last word, once it has published something."""
    async with relay_of(scene, mode) as part:
        seen = len(reader.messages)
        task = asyncio.ensure_future(part(asyncio.Event()))
        await until(lambda: len(reader.messages) > seen + 20, reader)
        task.cancel()
        await asyncio.wait({task})
