"""What a benchmark hands over: figures with their conditions, beside a ceiling measured in the same run."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `peer` is the ceiling's number for the same load, `ratio` is ours ÷ peer."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    goal: str
    unit: str
    conditions: str


def latency_figures(
    name: str, ours_ms: Sequence[float], peer_ms: Sequence[float], goals: tuple[str, str], conditions: str
) -> list[Figure]:
    """p50 and p99 of ours beside the ceiling's."""
    conditions = f"{conditions}; {len(ours_ms)} samples"
    return [
        _figure(f"{name} p{percent}", percentile(ours_ms, percent), percentile(peer_ms, percent), goal, conditions)
        for percent, goal in zip((50, 99), goals, strict=True)
    ]


def _figure(name: str, ours: float, peer: float, goal: str, conditions: str) -> Figure:
    return Figure(name, round(ours, 3), round(peer, 3), round(ours / peer, 2), goal, "ms", conditions)


def percentile(samples: Sequence[float], percent: int) -> float:
    """Nearest rank: the smallest sample that at least `percent` % do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


async def paced(per_second: float, seconds: float, emit: Callable[[int], Awaitable[None]]) -> None:
    """Call `emit(n)` at a steady rate without waiting for what it started: an open loop.

    A call that comes late is not skipped, so the load is as stated.
    """
    started, total = time.monotonic(), round(per_second * seconds)
    for number in range(total):
        ahead = started + number / per_second - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        await emit(number)


def machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {system}, Python {platform.python_version()}"


def family(name: str) -> str:
    """What figures that differ in a percentile or a part have in common."""
    return name.rpartition(" ")[0].partition(",")[0]


def table(figures: Sequence[Figure]) -> str:
    head = ("figure", "ours", "ceiling", "ratio", "goal", "unit")
    rows = [(f.name, f"{f.ours:g}", _text(f.peer), _text(f.ratio), f.goal, f.unit) for f in figures]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def write(figures: Sequence[Figure], target: Path) -> None:
    target.write_text(json.dumps([asdict(f) for f in figures], indent=2) + "\n", encoding="utf-8")
