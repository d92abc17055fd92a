"""Many seeds, shared out over processes. A process is told to hash text the same way each time (PYTHONHASHSEED), for
the order of a set is part of a run."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from tests.simulation.day import Outcome, quiet, simulate
from tests.simulation.sabotage import SABOTAGES

HASH_SEED = "0"
# Whatever waits for real time beside it goes first.
GIVING_WAY = ("nice", "-n", "19")
SEED_S_MAX = 120.0
WORLDS_KEPT = 8


def replay(seed: int, orders: int) -> str:
    return f"make simulate SEEDS=1 FROM={seed} ORDERS={orders}"


@dataclass(slots=True)
class Run:
    """What came of a range of seeds."""

    outcomes: list[Outcome] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        return sorted((one for one in self.outcomes if one.findings), key=lambda one: one.seed)

    def total(self, figure: str) -> int:
        return sum(int(one.figures.get(figure, 0)) for one in self.outcomes)


def in_this_process(
    seeds: Sequence[int], orders: int, tell: Callable[[str], None], sabotage: str = "", seconds: float = math.inf
) -> None:
    """One line of JSON before each seed and one after it. After so many seconds no further seed is begun."""
    until_s = time.monotonic() + seconds
    quiet()
    spoil = SABOTAGES[sabotage][0] if sabotage else None
    # The collector would walk through a whole world again and again; between two worlds it finds one in one go.
    gc.disable()
    gc.freeze()
    for number, seed in enumerate(seeds):
        if time.monotonic() > until_s:
            return
        tell(json.dumps({"begun": seed}))
        tell(json.dumps(asdict(simulate(seed, orders, spoil))))
        if number % WORLDS_KEPT == WORLDS_KEPT - 1:
            gc.collect()


async def run(
    first: int,
    seeds: int,
    orders: int,
    processes: int,
    told: Callable[[Outcome], None],
    sabotage: str = "",
    seconds: float = math.inf,
) -> Run:
    """All seeds from `first` on, or as many as `seconds` allow, in worlds that are broken on purpose when `sabotage`
    names how. A seed that takes forever, or a process that dies, is told of in `broken`."""
    found = Run()
    shares = [range(first + i, first + seeds, processes) for i in range(processes)]
    await asyncio.gather(*(_share(found, share, orders, told, sabotage, seconds) for share in shares if share))
    return found


async def _share(
    found: Run, mine: range, orders: int, told: Callable[[Outcome], None], sabotage: str, seconds: float
) -> None:
    words = [
        str(word) for word in ("--child", mine.start, mine.stop, mine.step, "--orders", orders, "--seconds", seconds)
    ]
    if sabotage:
        words += ["--sabotage", sabotage]
    child = await asyncio.create_subprocess_exec(
        *GIVING_WAY,
        sys.executable,
        "-m",
        "tests.simulation",
        *words,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": HASH_SEED},
        limit=2**24,
    )
    assert child.stdout is not None
    seed = mine.start
    try:
        while True:
            async with asyncio.timeout(SEED_S_MAX):
                line = await child.stdout.readline()
            if not line:
                break
            said = json.loads(line)
            if "begun" in said:
                seed = said["begun"]
                continue
            outcome = Outcome(**said)
            found.outcomes.append(outcome)
            told(outcome)
        if await child.wait() != 0:
            found.broken.append(
                f"the process that had seed {seed} ended with {child.returncode}: {replay(seed, orders)}"
            )
    except TimeoutError:
        found.broken.append(f"seed {seed} took more than {SEED_S_MAX} s: {replay(seed, orders)}")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
