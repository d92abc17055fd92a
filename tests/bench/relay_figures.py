"""The outbox relay's figures: three rates beside a bare round trip and, where its jars are, a tuned Debezium; what it
costs in processor time, and what it costs the writers."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg
import uvloop

from infra.bus_kafka import KafkaBus
from infra.stack import connect
from infra.stack.layout import Cache
from infra.stack.ports import free_numbers
from infra.stack.stack import Stack
from tests.bench import kafka_round_trip, outbox_to_kafka
from tests.bench.figures import Figure, latency_figures, percentile

R = TypeVar("R")
Say = Callable[[str], None]

# per second → goal for p99, milliseconds
GOALS = {200: 5, 1_000: 5, 2_000: 10}
# per second → how many times Debezium's p99 ours should fit into
TIMES_FASTER = {200: 10, 1_000: 10, 2_000: 3}
SECONDS, WARM_UP_SECONDS, PAIRS, PAIR_SECONDS = 10, 8, 3, 4
COMMITS_RATIO = 0.85


def measured(stack: Stack, say: Say) -> list[Figure]:
    infra = stack.settings.infra
    bootstrap, dsn = infra.bootstrap, infra.dsn("orders")
    say("outbox row → Kafka")
    # A broker that has just started compiles its own code for seconds, at the cost of everything beside it.
    _run(_ceiling(bootstrap, 1_000, WARM_UP_SECONDS))
    stack.start(["outbox_relay"])
    _run(_rows(bootstrap, dsn, 500, WARM_UP_SECONDS))
    found: list[Figure] = []
    ours: dict[int, list[float]] = {}
    for rate, goal in GOALS.items():
        ceiling = _run(_ceiling(bootstrap, rate, SECONDS / 2))
        before_s = outbox_to_kafka.cpu_s(stack.pid("outbox_relay"))
        ours[rate] = _run(_rows(bootstrap, dsn, rate, SECONDS))
        used_s = outbox_to_kafka.cpu_s(stack.pid("outbox_relay")) - before_s
        load = f"{rate}/s, one transaction each, relay by CDC"
        name = f"outbox insert → Kafka at {rate}/s"
        found += latency_figures(name, ours[rate], ceiling, ("", f"≤ {goal}"), load)
        per_row = used_s * 1e6 / (rate * SECONDS + outbox_to_kafka.WARM_UP)
        found.append(Figure(f"relay CPU at {rate}/s row", round(per_row), None, None, "", "µs", load))
    found.append(_commits(stack, dsn, say))
    return found + _beside_debezium(stack, ours, say)


def _commits(stack: Stack, dsn: str, say: Say) -> Figure:
    """Pairs in turn, so that what else the machine does falls on both."""
    say("commits with and without the relay")
    on, off = [], []
    for _ in range(PAIRS):
        stack.start(["outbox_relay"])
        outbox_to_kafka.wait_caught_up(dsn)
        on.append(_run(outbox_to_kafka.commits_per_second(dsn, PAIR_SECONDS)))
        stack.stop_processes(["outbox_relay"])
        off.append(_run(outbox_to_kafka.commits_per_second(dsn, PAIR_SECONDS)))
    ours, peer = statistics.median(on), statistics.median(off)
    load = f"{outbox_to_kafka.WRITERS} connections, median of {PAIRS} pairs of {PAIR_SECONDS} s; ceiling: relay stopped"
    return Figure("commits beside the relay", round(ours), round(peer), round(ours / peer, 2), f"≥ {COMMITS_RATIO} ×",
                  "commits/s", load)  # fmt: skip


def _beside_debezium(stack: Stack, ours: dict[int, list[float]], say: Say) -> list[Figure]:
    infra, found = stack.settings.infra, []
    cache = Cache(infra.cache_dir)
    if not connect.is_installed(cache):
        say("Debezium is not installed (`make test-debezium` does that): no comparison with it")
        return []
    say("outbox row → Kafka by Debezium, poll.interval.ms=1")
    stack.stop_processes(["outbox_relay"])
    with connect.running(stack.programs(), cache.debezium, stack.settings, *free_numbers(1)):
        _run(_rows(infra.bootstrap, infra.dsn("orders"), 500, 2 * WARM_UP_SECONDS))
        for rate, times in TIMES_FASTER.items():
            theirs = _run(_rows(infra.bootstrap, infra.dsn("orders"), rate, SECONDS))
            goals = ("", f"ratio ≤ {1 / times:.2g}")
            load = f"{rate}/s; ceiling here: Debezium 3.5 with poll.interval.ms=1 in our relay's place"
            found += latency_figures(f"relay beside Debezium at {rate}/s", ours[rate], theirs, goals, load)
            say(f"  {rate}/s: Debezium p99 {percentile(theirs, 99):.1f} ms")
    with psycopg.connect(infra.dsn("orders"), autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    stack.start(["outbox_relay"])
    return found


async def _ceiling(bootstrap: str, rate: float, seconds: float) -> list[float]:
    return await kafka_round_trip.measure(KafkaBus(bootstrap, "bench"), rate, seconds)


async def _rows(bootstrap: str, dsn: str, rate: float, seconds: float) -> list[float]:
    return await outbox_to_kafka.measure(KafkaBus(bootstrap, "bench"), dsn, rate, seconds)


def _run(work: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
