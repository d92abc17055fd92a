"""From Kafka to committed: the ingest's rows a second beside raw COPY BINARY of the same rows into the same table.

The peer is the ceiling of any writer: the rows are encoded beforehand, nothing is read, decoded, deduplicated or summed
up, and it commits the same batches. `python -m tests.bench.ingest` measures this alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import uvloop
from psycopg import sql

from exchange_gateway.simulator.tape import write_synthetic
from infra.bus_kafka import KafkaBus
from infra.cache import RedisCache
from infra.contracts import PRICES, Instrument
from infra.db import engine
from infra.migrations import runner
from infra.outbox import record_headers
from infra.process import GARBAGE_YOUNG, THREAD_SWITCH_S
from infra.stack import kafka, postgres
from infra.stack.stack import SERVERS, Stack, throwaway_settings
from infra.telemetry import configure_logging
from price_service.app import Consuming, WorkerAdapters
from price_service.domain.days import Day, DayKey, Snapshot
from price_service.ingest.mirror import Mirror
from price_service.ingest.ports import TickStore
from price_service.ingest.prices import Ingest
from price_service.ingest.rows import HEADER, TRAILER, rows
from price_service.ingest.ticks_pg import COPY, PgTicks
from price_service.settings import Settings
from price_service.store.records import Batch
from tests.bench import figures
from tests.bench.costs import costs
from tests.bench.figures import Figure
from tests.tape_messages import messages

SYMBOLS = 500
# The recorded day's mean, 12.6 ticks a second and symbol, times the symbols.
TICKS_PER_S = 6_300
PAIRS = 3
TEMPLATE = "bench_ingest_template"
GOAL = "≥ 0.75"
WRITE_BYTES = 128 * 1024
DEADLINE_S = 120.0
TICKS = 400_000


@dataclass(frozen=True, slots=True)
class Pass:
    """One side's run over all rows. CPU of the client's process and of all of PostgreSQL's."""

    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    memory_mib: float


class Watched:
    """The real store: says when it was first asked and when all was saved, and keeps what was copied when told to."""

    def __init__(self, inner: TickStore, ticks: int, kept: list[bytes] | None) -> None:
        self._inner = inner
        self._kept = kept
        self._left = ticks
        self.asked, self.done = asyncio.Event(), asyncio.Event()

    async def adopt(self, partitions: Collection[int]) -> Snapshot:
        self.asked.set()
        return await self._inner.adopt(partitions)

    async def days(self, keys: Collection[DayKey]) -> list[Day]:
        return await self._inner.days(keys)

    async def keep(self, instruments: Iterable[Instrument]) -> None:
        await self._inner.keep(instruments)

    async def save(self, batch: Batch) -> None:
        await self._inner.save(batch)
        if self._kept is not None:
            self._kept.append(HEADER + b"".join(row for columns in batch.ticks for row in rows(columns)) + TRAILER)
        self._left -= batch.count
        if self._left <= 0:
            self.done.set()


def measured(stack: Stack, ticks: int, say: Callable[[str], None]) -> list[Figure]:
    """Interleaved: ours, the peer, ours, …; the medians are compared."""
    with _set_as_every_process():
        return _measured(stack, ticks, say)


def _measured(stack: Stack, ticks: int, say: Callable[[str], None]) -> list[Figure]:
    infra = stack.settings.infra
    _template(stack)
    with tempfile.TemporaryDirectory() as folder:
        _fill(infra.bootstrap, _tape(Path(folder) / "tape.parquet", ticks))
    batches: list[bytes] = []
    ours: list[Pass] = []
    peers: list[Pass] = []
    for number in range(PAIRS + 1):
        with _database(stack) as dsn:
            mine = _run(_ingested(stack, dsn, ticks, batches if number == 0 else None))
        if number == 0:  # warms both sides up and learns the peer's batches
            _say_pass(say, "warm-up", mine, ticks)
            continue
        with _database(stack) as dsn:
            peer = _copied(stack, dsn, batches)
        _say_pass(say, "ours", mine, ticks)
        _say_pass(say, "peer", peer, ticks)
        ours.append(mine)
        peers.append(peer)
    return _figures(ours, peers, ticks, len(batches))


async def _ingested(stack: Stack, dsn: str, ticks: int, kept: list[bytes] | None) -> Pass:
    """The worker's own parts on real servers, from the assignment of its partitions to the commit of the last row."""
    infra = stack.settings.infra
    settings = Settings(infra=infra)
    bus, source, cache = KafkaBus(infra.bootstrap, "bench"), engine(dsn, "bench"), RedisCache(infra.redis_url)
    store = Watched(PgTicks(source), ticks, kept)
    mirror = Mirror(cache, settings.prices_cache_ms)
    producer = bus.producer()
    ingest = Ingest(store, producer, mirror, settings.prices_batch_messages_max)
    consuming = Consuming(settings, WorkerAdapters(bus=bus, producer=producer, store=store, cache=cache), ingest)
    stop = asyncio.Event()
    running = [asyncio.create_task(consuming.run(stop)), asyncio.create_task(mirror.run(stop))]
    try:
        async with asyncio.timeout(DEADLINE_S):
            await store.asked.wait()
            pids = {"postgres": stack.pid("postgres")}
            before, began_s, mine = costs(pids), time.perf_counter(), _cpu_s()
            await store.done.wait()
        wall_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - mine
        server_s = costs(pids)["postgres"].cpu_s - before["postgres"].cpu_s
        return Pass(wall_s, cpu_s, server_s, _memory_mib())
    finally:
        stop.set()
        await asyncio.gather(*running)
        await producer.close()
        await cache.close()
        await source.dispose()


def _copied(stack: Stack, dsn: str, batches: Sequence[bytes]) -> Pass:
    pids = {"postgres": stack.pid("postgres")}
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        before, began_s, mine = costs(pids), time.perf_counter(), _cpu_s()
        for batch in batches:
            with cursor.copy(COPY) as copy:
                for start in range(0, len(batch), WRITE_BYTES):
                    copy.write(batch[start : start + WRITE_BYTES])
            connection.commit()
        wall_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - mine
        server_s = costs(pids)["postgres"].cpu_s - before["postgres"].cpu_s
    return Pass(wall_s, cpu_s, server_s, _memory_mib())


def _figures(ours: Sequence[Pass], peers: Sequence[Pass], ticks: int, batches: int) -> list[Figure]:
    load = (
        f"{ticks:,} ticks of {SYMBOLS} symbols ({TICKS_PER_S:,} a second of event time), trades and quotes in JSON, "
        f"{batches} batches, 16 partitions, median of {len(ours)} interleaved pairs"
    )

    def figure(name: str, of: Callable[[Pass], float], goal: str, unit: str) -> Figure:
        mine, peer = (statistics.median(of(run) for run in runs) for runs in (ours, peers))
        return Figure(name, round(mine, 2), round(peer, 2), round(mine / peer, 2), goal, unit, load)

    def rows_per_s(run: Pass) -> float:
        return round(ticks / run.wall_s)

    worker = statistics.median(run.client_cpu_s for run in ours) / ticks * 1e6
    return [
        figure("Kafka to committed", rows_per_s, GOAL, "ticks/s"),
        Figure("Kafka to committed, CPU of the worker", round(worker, 2), None, None, "", "µs/tick", load),
        figure("Kafka to committed, CPU of PostgreSQL", lambda run: run.server_cpu_s / ticks * 1e6, "", "µs/tick"),
        _memory(ours, load),
    ]


def _memory(ours: Sequence[Pass], load: str) -> Figure:
    """What the last run of ours needed over the first: nothing may pile up."""
    first, last = ours[0].memory_mib, ours[-1].memory_mib
    name = "Kafka to committed, memory of the last pass beside the first"
    return Figure(name, round(last), round(first), round(last / first, 2), "flat", "MiB", load)


def _tape(target: Path, ticks: int) -> Path:
    """A synthetic day, hurried so that a symbol has as many ticks a second as a recorded one."""
    write_synthetic(target, symbols=SYMBOLS, rows=ticks, seed=1)
    table = pq.read_table(target)
    times = table["ts_event"].to_numpy()
    passed = (times - times[0]) * (ticks / TICKS_PER_S * 1e9 / (times[-1] - times[0]))
    hurried = pa.array(times[0] + passed.astype(np.int64))
    pq.write_table(table.set_column(table.schema.get_field_index("ts_event"), "ts_event", hurried), target)
    return target


def _fill(bootstrap: str, tape: Path) -> None:
    """As the gateway's feed sends them, with the headers of every message."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20, "acks": "all"}
    )
    session = time.time_ns() // 1_000_000_000
    for some in messages(tape, session):
        for key, value in some:
            identity = f"{key.decode()}-{session}-0000"
            headers: list[tuple[str, str | bytes | None]] = [*record_headers(identity, identity, "")]
            while True:
                try:
                    producer.produce(PRICES, value, key, headers=headers)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def _template(stack: Stack) -> None:
    infra = stack.settings.infra
    kafka.create_topics(infra.bootstrap)
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone()
        if known is None:
            postgres.create_database(admin, TEMPLATE, infra.postgres_user)
    postgres.add_extensions(stack.admin_dsn, TEMPLATE, postgres.EXTENSIONS["prices"])
    runner.upgrade("prices", infra.dsn(TEMPLATE))
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        # TimescaleDB's own workers would keep it in use, and what is in use cannot be cloned.
        admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(sql.Identifier(TEMPLATE)))
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (TEMPLATE,))


@contextlib.contextmanager
def _database(stack: Stack) -> Iterator[str]:
    """A fresh, migrated database; a checkpoint behind it, so that no side writes the other's pages out."""
    infra, name = stack.settings.infra, f"bench_{time.time_ns()}"
    words = [sql.Identifier(word) for word in (name, TEMPLATE, infra.postgres_user)]
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*words))
        admin.execute("CHECKPOINT")
        yield infra.dsn(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def _set_as_every_process() -> Iterator[None]:
    """What `infra.process.run` sets for the worker is part of what is measured."""
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(THREAD_SWITCH_S)
    gc.freeze()
    gc.set_threshold(GARBAGE_YOUNG, 50, 100)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _run(work: Coroutine[None, None, Pass]) -> Pass:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _say_pass(say: Callable[[str], None], name: str, run: Pass, ticks: int) -> None:
    say(
        f"{name}: {ticks / run.wall_s:,.0f} ticks/s; CPU per tick: client {run.client_cpu_s / ticks * 1e6:.2f} µs, "
        f"PostgreSQL {run.server_cpu_s / ticks * 1e6:.2f} µs; {run.memory_mib:.0f} MiB"
    )


def main() -> int:
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else TICKS
    configure_logging("bench", "WARNING")
    settings = throwaway_settings(os.environ)
    try:
        with Stack(settings, attached=True, say=_say) as stack:
            stack.start(SERVERS)
            found = measured(stack, ticks, _say)
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)
    print(f"\n{figures.machine()}\n\n{figures.table(found)}\n\n{found[0].conditions}")
    return 0


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
