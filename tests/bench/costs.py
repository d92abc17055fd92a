"""What each process costs: CPU time and memory, read from /proc before and after a load."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds so far, and resident memory now. A server's children (PostgreSQL's backends) count with it."""

    cpu_s: float
    memory_mib: float


def costs(pids: Mapping[str, int]) -> dict[str, Cost]:
    """By name, for the processes that run. Memory that PostgreSQL's backends share is counted once per backend."""
    children = _children()
    return {name: _with_children(pid, children) for name, pid in pids.items() if pid}


def per_order(before: Mapping[str, Cost], after: Mapping[str, Cost], orders: int, conditions: str) -> list[Figure]:
    """CPU µs per order and memory of each process, most expensive first."""
    spent = {name: (cost.cpu_s - before[name].cpu_s) / orders * 1e6 for name, cost in after.items() if name in before}
    figures = [
        Figure(f"CPU per order, {name}", round(micros), None, None, "", "µs", conditions)
        for name, micros in sorted(spent.items(), key=lambda item: -item[1])
    ]
    figures.append(Figure("CPU per order, all", round(sum(spent.values())), None, None, "", "µs", conditions))
    return figures + [
        Figure(f"memory, {name}", round(cost.memory_mib), None, None, "", "MiB", conditions)
        for name, cost in sorted(after.items(), key=lambda item: -item[1].memory_mib)
    ]


def descendants(pid: int) -> set[int]:
    """This process and everything below it."""
    return set(_below(pid, _children()))


def _below(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        yield one


def _with_children(pid: int, children: Mapping[int, list[int]]) -> Cost:
    cpu_s = memory_mib = 0.0
    for one in _below(pid, children):
        try:
            fields = _stat(one)
            resident = int(Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        # utime, stime, and those of children that have ended (proc(5), fields 14 to 17)
        cpu_s += sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS_PER_S
        memory_mib += resident * PAGE_BYTES / 2**20
    return Cost(cpu_s, memory_mib)


def _children() -> dict[int, list[int]]:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(_stat(int(folder.name))[1])].append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _stat(pid: int) -> list[str]:
    """The fields behind the name, which may hold blanks: state, ppid, …"""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
