"""One core for the server that is measured, the other for everything else; and what a process has used of its core."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.bench.costs import PAGE_BYTES, costs, descendants

SERVER_CORE, LOAD_CORE = 0, 1


def many() -> bool:
    """Are there two cores to keep apart?"""
    return (os.cpu_count() or 1) > 1


def on_server_core(command: list[str]) -> list[str]:
    return ["taskset", "-c", str(SERVER_CORE), *command] if many() else command


def anywhere(command: list[str]) -> list[str]:
    """For a client of Kafka that sends little: kept on one core it was seen to wait seconds for its acknowledgements,
    its thread spinning."""
    return ["taskset", "-c", f"0-{(os.cpu_count() or 1) - 1}", *command]


@contextlib.contextmanager
def rest_on_load_core(pids: Iterable[int]) -> Iterator[None]:
    """This process, what it starts from now on, and these with all below them stay off the server's core."""
    if not many():
        yield
        return
    everywhere = os.sched_getaffinity(0)
    roots = [os.getpid(), *pids]
    _pin(roots, {LOAD_CORE})
    try:
        yield
    finally:
        _pin(roots, everywhere)


def cpu_s(pid: int) -> float:
    """User and system time of a process and its children so far."""
    return costs({"it": pid})["it"].cpu_s


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


def only_child(pid: int) -> int:
    """The worker of a server that has one."""
    (found,) = descendants(pid) - {pid}
    return found


def _pin(roots: Iterable[int], where: set[int]) -> None:
    """Every thread of every process: an affinity is a thread's, and only new ones inherit it."""
    for root in roots:
        for pid in descendants(root):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(ProcessLookupError):
                        os.sched_setaffinity(int(thread.name), where)
