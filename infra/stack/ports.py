"""Is a port free, and who has it if not."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

LISTEN = "0A"


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_numbers(count: int) -> list[int]:
    """Distinct ports that were free a moment ago, below the range that outgoing connections take theirs from."""
    numbers: list[int] = []
    with contextlib.ExitStack() as held:
        while len(numbers) < count:
            number = 20_000 + int.from_bytes(os.urandom(2)) % 12_000
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            numbers.append(number)
    return numbers


def listening_inodes(tables: Iterable[str], port: int) -> set[str]:
    """Inodes of sockets that listen on `port`, from the text of /proc/net/tcp and tcp6."""
    wanted = f":{port:04X}"
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return {row[9] for row in rows if len(row) > 9 and row[3] == LISTEN and row[1].endswith(wanted)}


def holder(port: int, proc: Path = Path("/proc")) -> tuple[int, str] | None:
    """(pid, command line) of the process that listens on `port`, if this user may see it."""
    tables = [path.read_text() for path in (proc / "net/tcp", proc / "net/tcp6") if path.exists()]
    links = {f"socket:[{inode}]" for inode in listening_inodes(tables, port)}
    for entry in proc.iterdir() if links else ():
        if not entry.name.isdigit():
            continue
        try:
            if any(os.readlink(fd) in links for fd in (entry / "fd").iterdir()):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                return int(entry.name), os.fsdecode(words).strip()
        except OSError:
            continue
    return None


def taken_message(port: int, variable: str, process: str, held_by: tuple[int, str] | None) -> str:
    who = f"process {held_by[0]} ({held_by[1][:120]})" if held_by else "another process"
    return (
        f"port {port}, wanted by {process}, is taken by {who}. "
        f"Stop that process, or choose another port: {variable}={port + 1000 if port < 64000 else port - 1000} make up"
    )
