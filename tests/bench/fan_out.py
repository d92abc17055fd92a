"""The price stream to thousands of clients beside nginx with nchan, in turn, each alone on the server's core.

`python -m tests.bench.fan_out` measures this alone; `--quick` with a tenth of the clients, once.

Ours reads every tick from Kafka, beside the ingest, and conflates. nchan is told each tick by HTTP as fast as it takes
them, with answers awaited, which is where it does best. What is compared is delivered events per second of the server's
processor time.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from infra.settings import Infra, load
from infra.stack.errors import StackError
from infra.stack.layout import Cache
from tests.bench import cores, figures, nchan, price_side, price_ticks
from tests.bench.figures import Figure
from tests.bench.price_side import Side
from tests.bench.sse_clients import Clients, Counted, clients

Say = Callable[[str], None]
PAIRS = 3
FLUSH_MS = 20
# After the producer's process was started, until its load is steady; and how long it goes on after the measurement.
STEADY_S, TAIL_S, SECONDS = 2.5, 1.0, 6.0
CALM_S, WARM_UP_CLIENTS, WARM_UP_S = 1.0, 100, 25.0
DESCRIPTORS_SPARE = 500
NCHAN_WINDOW = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """Who follows what, and how many ticks come."""

    clients: int = 2_000
    symbols: int = 500
    follows: int = 20
    ticks_per_s: int = 20_000
    every: bool = False

    def subscriptions(self) -> list[list[str]]:
        names, chance = price_ticks.names(self.symbols), random.Random(self.clients)
        return [chance.sample(names, self.follows) for _ in range(self.clients)]

    def words(self) -> str:
        return f"{self.clients:,} clients × {self.follows} of {self.symbols:,} symbols, {self.ticks_per_s:,} ticks/s"


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one server."""

    events: int
    cpu_s: float
    seconds: float
    p50_ms: float
    p99_ms: float
    client_bytes: float
    wrong: int = 0
    late_ms: float = 0.0
    stored: float = 1.0

    @property
    def per_core(self) -> float:
        return self.events / self.cpu_s

    def words(self) -> str:
        return (
            f"{self.events / self.seconds:,.0f} events/s, {self.per_core:,.0f} per CPU second, "
            f"p50 {self.p50_ms:.0f} p99 {self.p99_ms:.0f} ms, {self.client_bytes / 1000:.1f} kB a client, "
            f"{self.wrong} wrong, {self.stored:.0%} stored, {self.late_ms:.0f} ms late"
        )


def ours(side: Side, scene: Scene) -> Run:
    names = price_ticks.names(scene.symbols)
    session = side.session(names)
    with side.api() as api:
        targets = [api.target(symbols, every=scene.every) for symbols in scene.subscriptions()]
        snapshots = 0 if scene.every else 1
        _warm_up(side.folder, api.port, targets, api.headers, snapshots=snapshots)
        before = cores.resident_bytes(api.pid)
        with clients(side.folder, api.port, targets, api.headers, snapshots=snapshots) as crowd:
            _connected(crowd)
            client_bytes = (cores.resident_bytes(api.pid) - before) / scene.clients
            ticks = side.load(names, session, scene.ticks_per_s, STEADY_S + SECONDS + TAIL_S)
            running = price_ticks.started(ticks)
            time.sleep(STEADY_S)
            first, cpu_s = crowd.mark(), cores.cpu_s(api.pid)
            time.sleep(SECONDS)
            last, cpu_s = crowd.mark(), cores.cpu_s(api.pid) - cpu_s
            made = price_ticks.finished(running, 60)
            stored = side.stored(session, made.ticks)
            _settled(crowd)
            right = price_ticks.expected(ticks, made.ticks)
            values = crowd.values()
            wrong = sum(value != right[symbol] for _, symbol, value in values)
            wrong += scene.clients * scene.follows - len(values)
    return replace(
        _run(first, last, cpu_s, client_bytes), wrong=wrong, late_ms=made.late_ms, stored=stored / made.ticks
    )


def theirs(side: Side, scene: Scene, **options: float) -> Run:
    with nchan.running(side.folder) as peer:
        targets = [peer.target(symbols) for symbols in scene.subscriptions()]
        _warm_up(side.folder, peer.port, targets, {}, snapshots=0)
        before = cores.resident_bytes(peer.pid)
        with clients(side.folder, peer.port, targets, {}, snapshots=0) as crowd:
            _connected(crowd)
            client_bytes = (cores.resident_bytes(peer.pid) - before) / scene.clients
            first, cpu_s = crowd.mark(), cores.cpu_s(peer.pid)
            peer.publish(price_ticks.names(scene.symbols), SECONDS, **({"window": NCHAN_WINDOW} | options))
            ages = crowd.mark()
            last, cpu_s = _all_arrived(crowd), cores.cpu_s(peer.pid) - cpu_s
    return replace(_run(first, last, cpu_s, client_bytes), p50_ms=ages.p50_ms, p99_ms=ages.p99_ms)


def measured(side: Side, say: Say, pairs: int = PAIRS, scale: int = 1) -> list[Figure]:
    """`scale` divides the number of clients, for a look that takes a minute."""
    many = Scene(clients=2_000 // scale)
    one = Scene(clients=2_000 // scale, symbols=1, follows=1, ticks_per_s=200)
    every = replace(one, ticks_per_s=100, every=True)
    fewer = replace(many, ticks_per_s=many.ticks_per_s // 10)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    scenes = {
        "×10 ticks": many,
        "×10 symbols": replace(fewer, symbols=5_000, follows=200),
        "×10 clients": replace(fewer, clients=min(fewer.clients * 10, limit - DESCRIPTORS_SPARE)),
    }
    batch = {"rate": 1000 / FLUSH_MS, "lines": _batch(one), "window": 64}
    steps: dict[str, Callable[[], Run]] = {
        "many": partial(ours, side, many),
        "many, nchan": partial(theirs, side, many),
        "one": partial(ours, side, one),
        "one, every tick": partial(ours, side, every),
        "one, nchan": partial(theirs, side, one),
        "one, nchan, batches": partial(theirs, side, one, **batch),
        "base": partial(ours, side, fewer),
        **{name: partial(ours, side, scene) for name, scene in scenes.items() if scene is not many},
    }
    runs: dict[str, list[Run]] = {name: [] for name in steps}
    for number in range(pairs):
        for name, step in steps.items():
            runs[name].append(step())
            say(f"fan-out, round {number + 1} of {pairs}, {name}: {runs[name][-1].words()}")
    runs["×10 ticks"] = runs["many"]
    return [*_many(runs, many), *_one(runs, one, every), *_memory(runs, many), *_scaled(runs, fewer, scenes)]


def alone(say: Say, pairs: int = PAIRS, scale: int = 1) -> list[Figure]:
    """On servers of its own; nothing where the peer cannot be had."""
    if not _peer_is_there(Cache(load(Infra, os.environ).cache_dir), say):
        return []
    with price_side.throwaway(os.environ, say) as side:
        _warm_broker(side)
        return measured(side, say, pairs, scale)


def _warm_broker(side: Side) -> None:
    """A broker that has just started takes hundreds of milliseconds for what takes it a few later."""
    scene = Scene()
    names = price_ticks.names(scene.symbols)
    ticks = side.load(names, side.session(names), scene.ticks_per_s, WARM_UP_S)
    price_ticks.finished(price_ticks.started(ticks), WARM_UP_S + 60)


def _peer_is_there(cache: Cache, say: Say) -> bool:
    try:
        nchan.installed(cache)
    except StackError as error:
        say(f"no fan-out figures: nginx with nchan could not be installed: {error}")
        return False
    return True


def _warm_up(folder: Path, port: int, targets: Sequence[str], headers: dict[str, str], **options: float) -> None:
    """What a server makes for its first clients is not counted as the clients' memory."""
    with clients(folder, port, targets[:WARM_UP_CLIENTS], headers, **options) as crowd:
        _connected(crowd)


def _connected(crowd: Clients) -> Counted:
    counted = crowd.open()
    if counted.refused or counted.open < counted.clients:
        raise RuntimeError(f"not all clients could connect: {counted}")
    time.sleep(CALM_S)
    return counted


def _settled(crowd: Clients) -> None:
    counted = crowd.settle()
    if counted.refused or counted.lost or counted.malformed:
        raise RuntimeError(f"clients were refused or lost: {counted}")


def _all_arrived(crowd: Clients) -> Counted:
    """Once the clients have what the server still writes after its last answer."""
    before, now = -1, crowd.mark()
    while now.events != before:
        time.sleep(0.1)
        before, now = now.events, crowd.mark()
    return now


def _run(first: Counted, last: Counted, cpu_s: float, client_bytes: float) -> Run:
    seconds = (last.at_ns - first.at_ns) / 1e9
    return Run(last.events - first.events, cpu_s, seconds, last.p50_ms, last.p99_ms, client_bytes)


# -- figures -----------------------------------------------------------------------------------------------------------


def _of(runs: Sequence[Run], what: Callable[[Run], float]) -> float:
    return median(what(run) for run in runs)


def _beside(name: str, ours: float, peer: float, goal: str, unit: str, conditions: str) -> Figure:
    return Figure(name, round(ours, 3), round(peer, 3), round(ours / peer, 2), goal, unit, conditions)


def _many(runs: dict[str, list[Run]], scene: Scene) -> list[Figure]:
    mine, nchans = runs["many"], runs["many, nchan"]
    seconds = _of(mine, lambda run: run.events / run.seconds)
    load = (
        f"{scene.words()}, ingest from Kafka running ({min(run.stored for run in mine):.0%} stored), "
        f"{seconds:,.0f} events/s delivered; server on one core, load and all else on the other, "
        f"the broker on both; producer at most {max(run.late_ms for run in mine):.0f} ms behind"
    )
    peer = f"peer: nginx + nchan, one worker, multiplexed channels, {NCHAN_WINDOW} messages on their way at most"
    return [
        _beside("price fan-out, events per core", _of(mine, lambda run: run.per_core),
                _of(nchans, lambda run: run.per_core), "≥ 15 ×", "1/CPU s",
                f"{load}; {peer}; median of {len(mine)} pairs"),
        Figure("price fan-out p50", _of(mine, lambda run: run.p50_ms), None, None, "", "ms", load),
        Figure("price fan-out p99", _of(mine, lambda run: run.p99_ms), None, None, "≤ 50", "ms", load),
        Figure("price fan-out, wrong final values", sum(run.wrong for run in mine), None, None, "0", "values",
               f"of {scene.clients * scene.follows:,} in each of {len(mine)} runs; {load}"),
    ]  # fmt: skip


def _one(runs: dict[str, list[Run]], one: Scene, every: Scene) -> list[Figure]:
    def per_core(name: str) -> float:
        return _of(runs[name], lambda run: run.per_core)

    where = f"one symbol to {one.clients:,} clients"
    newest = f"{where}, {one.ticks_per_s:,} ticks/s, conflated: a client gets the newest of each {FLUSH_MS} ms"
    all_of_them = f"{where}, {every.ticks_per_s:,} ticks/s, every tick (conflate=false)"
    peer = "peer: nchan, a message a tick, saturated"
    control = f"control: nchan's publisher puts {_batch(one)} ticks of {FLUSH_MS} ms into one message"
    return [
        _beside("one channel, events per core", per_core("one"), per_core("one, nchan"), "≥ 1.4 ×", "1/CPU s",
                f"{newest}; {peer}"),
        _beside("one channel, ticks covered per core", per_core("one") * _batch(one), per_core("one, nchan"), "",
                "1/CPU s", f"{newest}, which stands for {_batch(one)} ticks; the lead comes from fewer writes; {peer}"),
        _beside("one channel, ticks covered, publisher batches", per_core("one") * _batch(one),
                per_core("one, nchan, batches"), "", "1/CPU s", f"{newest}; {control}"),
        _beside("one channel, every tick, events per core", per_core("one, every tick"), per_core("one, nchan"), "",
                "1/CPU s", f"{all_of_them}; {peer}"),
    ]  # fmt: skip


def _batch(scene: Scene) -> int:
    return scene.ticks_per_s * FLUSH_MS // 1000


def _memory(runs: dict[str, list[Run]], scene: Scene) -> list[Figure]:
    def of(name: str) -> float:
        return _of(runs[name], lambda run: run.client_bytes / 1000)

    how = f"growth of the server's resident memory by {scene.clients:,} idle clients, without the kernel's buffers"
    return [
        _beside(f"memory per client, {scene.follows} symbols", of("many"), of("many, nchan"), "≤ 1 ×", "kB", how),
        _beside("memory per client, one symbol", of("one"), of("one, nchan"), "≤ 1 ×", "kB", how),
    ]


def _scaled(runs: dict[str, list[Run]], base: Scene, scenes: dict[str, Scene]) -> list[Figure]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    before_us = _of(runs["base"], lambda run: 1e6 / run.per_core)
    return [
        _beside(f"cost per event, {name}", _of(runs[name], lambda run: 1e6 / run.per_core), before_us, "≤ 1.2 ×",
                "µs CPU", f"{scene.words()}; peer: ours with {base.words()}; at most {limit:,} descriptors a process; "
                f"{sum(run.wrong for run in runs[name])} wrong final values")
        for name, scene in scenes.items()
    ]  # fmt: skip


def main(quick: bool) -> int:
    def say(text: str) -> None:
        print(f"  {time.strftime('%X')} {text}", file=sys.stderr, flush=True)

    found = alone(say, *((1, 10) if quick else ()))
    print(f"\n{figures.machine()}\n\n{figures.table(found)}\n")
    for figure in found:
        print(f"{figure.name}: {figure.conditions}")
    return 0


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
