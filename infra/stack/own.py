"""Which processes of this machine belong to a stack: those that carry its mark in their environment.

The mark outlives a killed supervisor and a lost pid file, and no foreign process has it. Signals go through pidfds, so
a number that was given to another process in the meantime is never hit.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "XGW_STACK"


@dataclass(frozen=True, slots=True)
class Owned:
    pid: int
    name: str


def mark_of(environ: bytes) -> str | None:
    """The stack named in the bytes of /proc/PID/environ."""
    prefix = f"{MARK}=".encode()
    for item in environ.split(b"\0"):
        if item.startswith(prefix):
            return os.fsdecode(item[len(prefix) :])
    return None


def signal_for(name: str) -> signal.Signals:
    """PostgreSQL ends its sessions at once on SIGINT; SIGTERM would wait for clients to leave."""
    return signal.SIGINT if name == "postgres" else signal.SIGTERM


def belongs(pid: int, run_dir: Path, proc: Path = Path("/proc")) -> bool:
    try:
        return mark_of((proc / str(pid) / "environ").read_bytes()) == str(run_dir)
    except OSError:
        return False


def found(run_dir: Path, proc: Path = Path("/proc")) -> list[Owned]:
    """Every live process of this stack except the caller."""
    numbers = (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    return [Owned(pid, _name(pid, proc)) for pid in numbers if pid != os.getpid() and belongs(pid, run_dir, proc)]


def end(run_dir: Path, patience_s: float = 20) -> list[Owned]:
    """End every process of this stack: first politely, then, after `patience_s`, by force."""
    ended = found(run_dir)
    # The supervisor first: it would start its children again.
    ended.sort(key=lambda p: p.name != "supervisord")
    with _open(ended, run_dir) as opened:
        for process, fd in opened:
            _send(fd, signal.SIGKILL if process.name == "supervisord" else signal_for(process.name))
        deadline = time.monotonic() + patience_s
        for _, fd in opened:
            if not _gone(fd, deadline - time.monotonic()):
                _send(fd, signal.SIGKILL)
                _gone(fd, patience_s)
    # Children that a dying server started in between, or that left it.
    late = found(run_dir)
    with _open(late, run_dir) as opened:
        for _, fd in opened:
            _send(fd, signal.SIGKILL)
        for _, fd in opened:
            _gone(fd, patience_s)
    return ended + [p for p in late if p not in ended]


@contextlib.contextmanager
def _open(processes: Iterable[Owned], run_dir: Path) -> Iterator[list[tuple[Owned, int]]]:
    """pidfds of those that are still there and, seen after opening, still ours."""
    opened: list[tuple[Owned, int]] = []
    try:
        for process in processes:
            try:
                fd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            opened.append((process, fd))
        yield [(process, fd) for process, fd in opened if belongs(process.pid, run_dir)]
    finally:
        for _, fd in opened:
            os.close(fd)


def _send(fd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)


def _gone(fd: int, timeout_s: float) -> bool:
    """A pidfd becomes readable when its process ends."""
    return bool(select.select([fd], [], [], max(0.0, timeout_s))[0])


def _name(pid: int, proc: Path) -> str:
    """The program's name. Python shows its module's or script's instead of `python`."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    names = [os.fsdecode(word).rpartition("/")[2] for word in words[:3]]
    if "supervisord" in names or "supervisor.supervisord" in names:
        return "supervisord"
    return names[0] or "?"
