"""How fast orders are written, beside pgbench running the same statements on the same server in the same minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar
from uuid import uuid4

import psycopg
import uvloop
from psycopg import sql

from infra.bus_kafka import KafkaBus
from infra.migrations import runner
from infra.stack import install, postgres
from infra.stack.layout import Cache
from infra.stack.stack import Stack
from tests.bench import order_http, order_writes, pgbench
from tests.bench.figures import Figure
from tests.bench.order_writes import ACCOUNTS, CALLERS, Speed
from tests.bench.pgbench import Peer

R = TypeVar("R")
ROUNDS, SECONDS = 3, 8
REPORTED, REPORTS_A_BATCH = 10_000, 250


@dataclass(frozen=True, slots=True)
class Bench:
    """The server, where its programs are, and who may make databases."""

    stack: Stack
    root: Path
    pid: int

    @contextmanager
    def database(self) -> Iterator[str]:
        """DSN of a database with the schema and funded accounts, for one measurement."""
        name, infra = f"bench_{uuid4().hex[:12]}", self.stack.settings.infra
        with psycopg.connect(self.stack.admin_dsn, autocommit=True) as admin:
            postgres.create_database(admin, name, infra.postgres_user)
            runner.upgrade("orders", infra.dsn(name))
            run(order_writes.prepare(infra.dsn(name)))
            admin.execute("CHECKPOINT")
            yield infra.dsn(name)
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def peer(self, pipelined: bool) -> Peer:
        with self.database() as dsn:
            texts = pgbench.scripts(run(order_writes.sample(dsn)), ACCOUNTS, pipelined)
            return pgbench.measure(self.root, dsn, texts, SECONDS)

    def desk(self, accounts: int) -> Speed:
        with self.database() as dsn:
            return run(order_writes.orders(dsn, self.pid, SECONDS, accounts))

    def reports(self) -> Speed:
        with self.database() as dsn:
            return run(order_writes.reports(dsn, self.pid, REPORTED, REPORTS_A_BATCH))


def measured(stack: Stack, say: Callable[[str], None]) -> list[Figure]:
    """Needs the servers only, and nothing else that runs beside them."""
    root = install.install(Cache(stack.settings.infra.cache_dir), say).root
    bench = Bench(stack, root, stack.pid("postgres"))
    plain, ours, piped, one = [], [], [], []
    for number in range(ROUNDS):
        say(f"orders, desk and pgbench in turn, round {number + 1} of {ROUNDS}")
        plain.append(bench.peer(pipelined=False))
        ours.append(bench.desk(ACCOUNTS))
        piped.append(bench.peer(pipelined=True))
        one.append(bench.desk(1))
    say(f"desk {_rate(ours):.0f}/s, one hot account {_rate(one):.0f}/s, pgbench {_rate(plain):.0f}/s")
    say("reports")
    told = [bench.reports() for _ in range(ROUNDS)]
    say(f"{_rate(told):.0f} reports/s; POST /orders")
    single, double = _over_http(stack, bench.pid)
    base, base_p99 = _rate(plain), median(each.p99_ms for each in plain)
    desk = f"{CALLERS} callers in one process, {ACCOUNTS} accounts, every check on, one transaction a batch"
    peer = f"pgbench, {CALLERS} clients, the same statements, one order a transaction; median of {ROUNDS} rounds"
    conditions = f"{desk}; {peer}"
    found = [
        _faster("orders written, desk ÷ pgbench", _rate(ours), base, "≥ 2.5", conditions),
        _faster("orders written, desk ÷ pgbench pipelined", _rate(ours), _rate(piped), "", conditions),
        _faster("orders written, one hot account", _rate(one), base, "", f"peer: {ACCOUNTS} accounts; {peer}"),
        Figure(
            "orders written, p99",
            round(median(each.p99_ms for each in ours), 2),
            round(base_p99, 2),
            round(median(each.p99_ms for each in ours) / base_p99, 2),
            "≤ 1",
            "ms",
            conditions,
        ),
        *_costs("order in process", ours, conditions),
        _faster("POST /orders, one api process", single.per_second, base, "≥ 0.8", f"raw HTTP clients; {conditions}"),
        _faster("POST /orders, two api processes", double.per_second, base, "≥ 1.1", f"raw HTTP clients; {conditions}"),
        *_costs("order over HTTP", [single], f"one api process, {CALLERS} clients"),
    ]
    load = f"an acknowledgement and a full fill of {REPORTED} orders, {REPORTS_A_BATCH} reports a batch, one by one"
    return [
        *found,
        Figure("reports applied", round(_rate(told)), None, None, "≥ 10000", "1/s", load),
        *_costs("report", told, load),
    ]


def _over_http(stack: Stack, postgres_pid: int) -> tuple[Speed, Speed]:
    infra = stack.settings.infra
    run(order_writes.prepare(infra.dsn("orders")))
    run(order_http.listed(KafkaBus(infra.bootstrap, "bench")))
    speeds = []
    for count in (1, 2):
        with order_http.apis(stack.variables, count) as running:
            speeds.append(run(order_http.measure(running, postgres_pid, stack.variables, SECONDS)))
    return speeds[0], speeds[1]


def _rate(measured: list[Peer] | list[Speed]) -> float:
    return median(each.per_second for each in measured)


def _faster(name: str, ours: float, peer: float, goal: str, conditions: str) -> Figure:
    return Figure(name, round(ours), round(peer), round(ours / peer, 2), goal, "1/s", conditions)


def _costs(name: str, speeds: list[Speed], conditions: str) -> list[Figure]:
    python, server = median(each.python_us for each in speeds), median(each.postgres_us for each in speeds)
    return [
        Figure(f"CPU per {name}, Python", round(python), None, None, "", "µs", conditions),
        Figure(f"CPU per {name}, PostgreSQL", round(server), None, None, "", "µs", conditions),
    ]


def run(work: Coroutine[None, None, R]) -> R:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner_:
        return runner_.run(work)
