"""Workers of the price service as processes of their own, on a stack's servers and its database `prices`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from infra.bus import TopicPartition
from infra.bus_kafka import KafkaBus
from infra.contracts import PRICES
from infra.migrations import runner
from infra.stack import ports
from infra.stack.layout import REPOSITORY
from infra.stack.stack import Stack
from tests.flow.walking import eventually

TABLES = "ticks, bars_1m, bars_1h, bars_1d, bars_dirty, tick_marks, partition_offsets"
PARTITIONS = 16


class Scene:
    """Everything before `begin` is passed over: other tests use the topic too."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.infra = stack.settings.infra
        self.dsn = self.infra.dsn("prices")
        self.session = time.time_ns() // 1_000_000
        self._variables = stack.variables
        self._folder = folder
        self._workers: dict[int, subprocess.Popen[bytes]] = {}

    async def begin(self) -> None:
        runner.upgrade("prices", self.dsn)
        ends = await self.ends()
        with psycopg.connect(self.dsn) as connection:
            connection.execute(f"TRUNCATE {TABLES}".encode())
            for partition in range(PARTITIONS):
                offset = ends.get(TopicPartition(PRICES, partition), 0)
                values = (PRICES, partition, offset)
                connection.execute(
                    "INSERT INTO partition_offsets (topic, partition, next_offset) VALUES (%s, %s, %s)", values
                )

    async def ends(self) -> dict[TopicPartition, int]:
        return dict(await KafkaBus(self.infra.bootstrap, "test").ends([PRICES]))

    def start(self, number: int) -> None:
        """One more worker, or the successor of one that was killed."""
        variables = self._variables | {
            "XGW_PRICE_SERVICE_PORT": str(ports.free_numbers(1)[0]),
            "XGW_PRICES_BATCH_MESSAGES_MAX": "2000",
        }
        log = (self._folder / f"worker-{number}.log").open("ab")
        command = [sys.executable, "-m", "price_service"]
        self._workers[number] = subprocess.Popen(command, env=variables, cwd=REPOSITORY, stdout=log, stderr=log)
        log.close()

    def kill(self, number: int) -> None:
        worker = self._workers.pop(number)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def end(self) -> None:
        for worker in self._workers.values():
            worker.terminate()
        for worker in self._workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(10)
            worker.kill()
            worker.wait()

    def send(self, tape: Path, seed: int, per_s: float | None = None) -> subprocess.Popen[bytes]:
        rate = [] if per_s is None else [str(per_s)]
        arguments = [self.infra.bootstrap, str(tape), str(self.session), str(seed), *rate]
        return subprocess.Popen([sys.executable, "-m", "tests.ingest_sender", *arguments], cwd=REPOSITORY)

    async def shared(self) -> None:
        """Two workers hold partitions of the group: each has adopted some, and none has all."""

        async def both() -> bool:
            return all(self._adopted(number) for number in self._workers)

        await eventually("both workers have partitions", both, 60, 0.2)

    def _adopted(self, number: int) -> bool:
        """Its last assignment is of some partitions, not of all."""
        lines = (self._folder / f"worker-{number}.log").read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if '"partitions_assigned"' in line]
        return bool(found) and 0 < found[-1].count(f"{PRICES}/") < PARTITIONS

    def offsets(self) -> dict[TopicPartition, int]:
        statement = "SELECT partition, next_offset FROM partition_offsets WHERE topic = %s"
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(statement, (PRICES,)).fetchall()
        return {TopicPartition(PRICES, int(partition)): int(offset) for partition, offset in rows}

    async def reached(self, ends: dict[TopicPartition, int], timeout_s: float) -> None:
        """Everything before these offsets is stored."""

        async def stored() -> bool:
            held = self.offsets()
            return all(held.get(place, 0) >= offset for place, offset in ends.items())

        await eventually("the ingest has caught up", stored, timeout_s, 0.1)

    async def handled(self, messages: int, timeout_s: float) -> None:
        """So many more messages than now."""
        wanted = sum(self.offsets().values()) + messages

        async def stored() -> bool:
            return sum(self.offsets().values()) >= wanted

        await eventually(f"{messages} more messages are handled", stored, timeout_s, 0.05)


@contextlib.contextmanager
def scene(stack: Stack, folder: Path) -> Iterator[Scene]:
    made = Scene(stack, folder)
    try:
        yield made
    finally:
        made.end()


async def ended(sending: subprocess.Popen[bytes], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        code = await asyncio.to_thread(sending.wait)
    assert code == 0
