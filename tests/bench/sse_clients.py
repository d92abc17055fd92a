"""Thousands of SSE clients in a process of their own (`load/sse_load.c`), told by commands what to do."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench import compiled

OPEN_S, ANSWER_S, SETTLE_S = 90, 15, 60
# Each run has source addresses of its own, so that ports of the last one that still wait do not matter.
_SOURCES = itertools.cycle(range(1, 250))


class Counted(msgspec.Struct, frozen=True):
    """What the clients have seen so far; latencies since the last time they were asked."""

    at_ns: int
    cpu_s: float
    clients: int
    open: int
    there: int
    events: int
    bytes: int
    reads: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    pings: int
    specials: int
    resets: int
    gaps: int
    repeats: int
    reconnects: int
    lost: int
    slow_lost: int
    refused: int
    failed: int
    malformed: int
    statuses: dict[str, int]


class ClientsFailed(RuntimeError):
    """The load program ended or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Value:
    """The newest quote that a client has of a symbol; `price` in 1e-4 USD."""

    volume: int
    price: int


class Clients:
    """Use in a `with` block: the program ends with it."""

    def __init__(self, program: subprocess.Popen[str], values: Path) -> None:
        self._program = program
        self._values = values

    def open(self) -> Counted:
        """Connect all; returns once each was answered."""
        return self._asked("open", OPEN_S)

    def mark(self) -> Counted:
        return self._asked("mark", ANSWER_S)

    def settle(self) -> Counted:
        """Let all catch up until nothing comes any more, and end."""
        return self._asked("settle", SETTLE_S)

    def values(self) -> list[tuple[int, str, Value]]:
        """(client, symbol, newest) once they have settled."""
        rows = (line.split() for line in self._values.read_text(encoding="ascii").splitlines())
        return [(int(row[0]), row[1], Value(int(row[2]), int(row[3]))) for row in rows]

    def _asked(self, command: str, seconds: float) -> Counted:
        """A program that does not answer in time is ended, which ends the wait."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        timer = threading.Timer(seconds, self._program.kill)
        timer.start()
        try:
            self._program.stdin.write(f"{command}\n")
            self._program.stdin.flush()
            answer = self._program.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if not answer:
            raise ClientsFailed(f"the clients did not answer {command!r} within {seconds:.0f} s, or had ended")
        return msgspec.json.decode(answer, type=Counted)


@contextlib.contextmanager
def clients(
    folder: Path, port: int, targets: Sequence[str], headers: Mapping[str, str], **options: float
) -> Iterator[Clients]:
    """One client for each request target. `options` are those of the program."""
    program = compiled.built("sse_load", folder)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        (place / "targets").write_text("".join(f"{target}\n" for target in targets), encoding="ascii")
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        (place / "headers").write_bytes(lines.encode("ascii"))
        files = [str(place / file) for file in ("targets", "headers", "values")]
        options = {"source": next(_SOURCES), "pending": 256} | options
        command = [str(program), "127.0.0.1", str(port), *files, *(f"{k}={v:g}" for k, v in options.items())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
            try:
                yield Clients(running, place / "values")
            finally:
                running.kill()
