"""`make simulate SEEDS=n ORDERS=m FROM=seed`: days of bad luck, two processes at a time."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import time

from tests.simulation.day import Outcome
from tests.simulation.sabotage import SABOTAGES
from tests.simulation.seeds import in_this_process, replay, run

FINDINGS_SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--child", type=int, nargs=3, metavar=("START", "STOP", "STEP"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no further seed after that")
    parser.add_argument("--sabotage", default="", choices=("", *SABOTAGES))
    asked = parser.parse_args()
    if asked.child:
        in_this_process(range(*asked.child), asked.orders, _line, asked.sabotage, asked.seconds)
        return 0
    began_s = time.monotonic()
    found = asyncio.run(
        run(
            asked.first,
            asked.seeds,
            asked.orders,
            asked.processes,
            lambda one: _show(one, asked.orders),
            asked.sabotage,
            asked.seconds,
        )
    )
    took_s = time.monotonic() - began_s
    placed = found.total("placed")
    print(
        f"{len(found.outcomes)} seeds, {placed} orders, {len(found.failed)} seeds with findings, {took_s:.1f} s, "
        f"{took_s * asked.processes / max(placed, 1) * 1e6:.0f} µs of CPU per order"
    )
    for text in found.broken:
        print(text)
    return 1 if found.failed or found.broken else 0


def _line(text: str) -> None:
    print(text, flush=True)


def _show(outcome: Outcome, orders: int) -> None:
    if not outcome.findings:
        return
    print(f"seed {outcome.seed}: {len(outcome.findings)} findings; {replay(outcome.seed, orders)}")
    for text in outcome.findings[:FINDINGS_SHOWN]:
        print(f"    {text}")


if __name__ == "__main__":
    sys.exit(main())
