"""Thousands of price streams for minutes, some slow, some coming back all the time: nothing is lost and nothing grows.

`SOAK_S` says for how many seconds (600 unless told).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import urllib.request
from dataclasses import dataclass
from statistics import linear_regression

import pytest

from tests.bench import cores, price_side, price_ticks
from tests.bench.price_side import Api, Side
from tests.bench.price_ticks import Load
from tests.bench.sse_clients import Clients, Counted, clients

CLIENTS, SYMBOLS, FOLLOWS, TICKS_PER_S = 2_000, 500, 20, 2_000
SLOW_PERCENT, LEAVING_PERCENT_PER_S = 5, 1
# Streams of every tick: few, since each tick is a write, and leaving often, since resuming is what is proved.
EVERY_CLIENTS, EVERY_FOLLOWS, EVERY_LEAVING_PERCENT_PER_S = 20, 5, 5
SAMPLE_S, WARM_UP_PART = 2.0, 0.25
# What waits for slow clients may still grow a little; a leak of 1 kB in each connection that comes back is more.
GROWTH_MIB_MAX = 8.0
STALLS = "xgw_loop_stalls_total"


@dataclass(frozen=True, slots=True)
class Lived:
    """What was seen of the api while the clients followed: resident MiB by second, after the warm-up."""

    seconds: list[float]
    mib: list[float]

    @property
    def growth_mib(self) -> float:
        return linear_regression(self.seconds, self.mib).slope * (self.seconds[-1] - self.seconds[0])


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_streams_stay_right_and_small() -> None:
    seconds = float(os.environ.get("SOAK_S", "600"))
    names, chance = price_ticks.names(SYMBOLS), random.Random(5)
    followed = [chance.sample(names, FOLLOWS) for _ in range(CLIENTS)]
    every = [chance.sample(names, EVERY_FOLLOWS) for _ in range(EVERY_CLIENTS)]
    with price_side.throwaway(os.environ, print) as side:
        load = side.load(names, side.session(names), TICKS_PER_S, seconds)
        with side.api() as api, _conflated(side, api, followed) as many, _unconflated(side, api, every) as few:
            _all_there(many)
            _all_there(few)
            running = price_ticks.started(load)
            lived = _watched(api, seconds)
            made = price_ticks.finished(running, 60)
            stored = side.stored(load.session, made.ticks)
            stalls = _metric(api, STALLS)
            ends = [many.settle(), few.settle()]
            wrong = _wrong(many, followed, load, made.ticks)
            every_wrong = _wrong(few, every, load, made.ticks)
    resident = ", ".join(f"{mib:.0f}" for mib in lived.mib)
    print(f"{made}; {stored} stored; MiB: {resident}; {lived.growth_mib:.1f} growth; {stalls:.0f} stalls; {ends}")
    assert stored == made.ticks
    assert (wrong, every_wrong) == (0, 0), "newest values are not those of the last tick"
    for end in ends:
        assert set(end.statuses) == {"200"}, "each connect is answered, and none with an error"
        assert (end.failed, end.refused, end.lost, end.malformed) == (0, 0, 0, 0)
        assert end.open == end.clients
        assert end.reconnects > 0
    assert ends[1].events > 0
    assert (ends[1].gaps, ends[1].repeats) == (0, 0), "a stream of every tick has a gap that no reset names"
    assert lived.growth_mib <= GROWTH_MIB_MAX


def _conflated(side: Side, api: Api, followed: list[list[str]]) -> contextlib.AbstractContextManager[Clients]:
    options = {"slow": SLOW_PERCENT, "reconnect": LEAVING_PERCENT_PER_S}
    return clients(side.folder, api.port, [api.target(symbols) for symbols in followed], api.headers, **options)


def _unconflated(side: Side, api: Api, followed: list[list[str]]) -> contextlib.AbstractContextManager[Clients]:
    targets = [api.target(symbols, every=True) for symbols in followed]
    options = {"reconnect": EVERY_LEAVING_PERCENT_PER_S, "snapshots": 0}
    return clients(side.folder, api.port, targets, api.headers, **options)


def _all_there(crowd: Clients) -> Counted:
    counted = crowd.open()
    assert counted.open == counted.clients, f"not all were answered: {counted}"
    return counted


def _watched(api: Api, seconds: float) -> Lived:
    began, lived = time.monotonic(), Lived([], [])
    while (now := time.monotonic() - began) < seconds:
        if now >= seconds * WARM_UP_PART:
            lived.seconds.append(now)
            lived.mib.append(cores.resident_bytes(api.pid) / 2**20)
        time.sleep(SAMPLE_S)
    return lived


def _wrong(crowd: Clients, followed: list[list[str]], load: Load, ticks: int) -> int:
    right, values = price_ticks.expected(load, ticks), crowd.values()
    missing = sum(map(len, followed)) - len(values)
    return missing + sum(value != right[symbol] for _, symbol, value in values)


def _metric(api: Api, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{api.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))
