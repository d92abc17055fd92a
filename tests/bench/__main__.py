"""`make bench`: latencies on real servers of this machine, each beside a ceiling measured in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TypeVar

import uvloop

from infra.bus_kafka import KafkaBus
from infra.process import GARBAGE_YOUNG, THREAD_SWITCH_S
from infra.stack.layout import Cache
from infra.stack.stack import SERVERS, Stack, throwaway_settings
from tests.bench import (
    fan_out,
    figures,
    ingest,
    kafka_round_trip,
    order_figures,
    order_to_client,
    quote_reads,
    relay_figures,
    tick_to_client,
)
from tests.bench.costs import costs, per_order
from tests.bench.figures import Figure

R = TypeVar("R")
RESULTS = Path("bench-results.json")
SECONDS = 20
TICKS_PER_S, ORDERS_PER_S = 2_000, 50
EVERYTHING = ("venue", "exchange_gateway", "outbox_relay", "price_service", "order_service", "api")


def main() -> int:
    settings = throwaway_settings(os.environ)
    # The orders are measured while a day is played at its own speed, not beside an idle feed.
    limits = {"XGW_ORDER_OPEN_MAX": "100000", "XGW_ORDER_PER_SECOND_MAX": "100000"}
    environ = dict(os.environ) | {"XGW_TAPE_SPEED": "1x"} | limits
    try:
        with Stack(settings, environ, attached=True, say=_say) as stack:
            stack.start(SERVERS)
            stack.prepare()
            found = measured(stack)
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)
    _say(figures.table(found))
    found += _prices(Cache(settings.infra.cache_dir))
    figures.write(found, RESULTS)
    print(f"\n{figures.machine()}; servers, services and load share these cores\n\n{figures.table(found)}\n")
    for name, conditions in {figures.family(f.name): f.conditions for f in found}.items():
        print(f"{name}: {conditions}")
    print(f"ceiling: one 300 B record from producer to consumer through the same Kafka at the same rate\nsee {RESULTS}")
    return 0


def measured(stack: Stack) -> list[Figure]:
    """Each load runs with just the processes it needs, so that figures do not depend on each other."""
    infra = stack.settings.infra
    api_url = f"http://127.0.0.1:{infra.api_port}"
    token = _token(stack)
    found: list[Figure] = []

    found += relay_figures.measured(stack, _say)
    _say(figures.table(found))

    _say("tick at Kafka → SSE client")
    session = _run(_listed(infra.bootstrap))
    stack.start(["price_service", "api"])
    ceiling, ours = _run(_ticks(infra.bootstrap, session, api_url, token))
    name, load = "tick at Kafka → SSE client", f"{TICKS_PER_S}/s over 100 symbols, one client, ingest running"
    found += figures.latency_figures(name, ours, ceiling, ("", "≤ 50"), load)

    _say("POST → acknowledged → SSE client")
    stack.start(EVERYTHING)
    before = costs(_pids(stack))
    ceiling, ours = _run(_orders(infra.bootstrap, api_url, token))
    after = costs(_pids(stack))
    name, load = "POST → venue ack → SSE client", f"{ORDERS_PER_S}/s, all processes, tape at 1x"
    found += figures.latency_figures(name, ours, ceiling, ("", "≤ 50"), load)
    orders = order_to_client.WARM_UP + ORDERS_PER_S * SECONDS
    found += per_order(before, after, orders, f"{load}; the tape's own cost is in it")
    _say(figures.table(found))  # what is known by now, should the rest be cut short

    stack.stop_processes(EVERYTHING)
    return found + order_figures.measured(stack, _say)


def _prices(cache: Cache) -> list[Figure]:
    """The price path beside its peers, on servers of its own: the ingest reads its topic from the beginning."""
    settings = throwaway_settings(os.environ)
    try:
        with _as_our_processes(), Stack(settings, attached=True, say=_say) as stack:
            stack.start(SERVERS)
            found = ingest.measured(stack, ingest.TICKS, _say)
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)
    found += quote_reads.measured(cache, _say)
    _say(figures.table(found))
    return found + fan_out.alone(_say)


@contextlib.contextmanager
def _as_our_processes() -> Iterator[None]:
    """What a process of ours sets at its start (`infra/process.py`), for one that is measured inside this one."""
    switch_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_YOUNG, 50, 100)
    sys.setswitchinterval(THREAD_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _pids(stack: Stack) -> dict[str, int]:
    return {name: stack.pid(name) for name in stack.states()}


async def _listed(bootstrap: str) -> int:
    return await tick_to_client.list_symbols(KafkaBus(bootstrap, "bench"))


async def _ticks(bootstrap: str, session: int, api_url: str, token: str) -> tuple[list[float], list[float]]:
    bus = KafkaBus(bootstrap, "bench")
    ceiling = await kafka_round_trip.measure(bus, TICKS_PER_S, SECONDS / 2)
    return ceiling, await tick_to_client.measure(bus, session, api_url, token, TICKS_PER_S, SECONDS)


async def _orders(bootstrap: str, api_url: str, token: str) -> tuple[list[float], list[float]]:
    bus = KafkaBus(bootstrap, "bench")
    ceiling = await kafka_round_trip.measure(bus, ORDERS_PER_S, SECONDS / 2)
    symbol = await order_to_client.tradable(api_url, token)
    return ceiling, await order_to_client.measure(api_url, token, symbol, ORDERS_PER_S, SECONDS)


def _run(work: Coroutine[None, None, R]) -> R:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _token(stack: Stack) -> str:
    return stack.run_module("api.auth.issue", "--role", "investor", "--account", "1").strip()


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
