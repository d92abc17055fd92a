"""A recorded day and ten million synthetic ticks go through Kafka, some of them twice, late and out of order, while the
workers of the price service are killed; then the store equals a recomputation from the file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from exchange_gateway.simulator.tape import write_synthetic
from infra.stack.stack import Stack
from tests.ingest_scene import Scene, ended, scene
from tests.recomputed import Recomputed
from tests.tape_files import real_tape

SYMBOLS = 500
RECORDED_TICKS, SYNTHETIC_TICKS = 1_793_341, 10_000_000
KILLS = 5


def recorded(folder: Path) -> Path:
    if (found := real_tape()) is not None:
        return found
    print("no recorded tape on this machine: a synthetic one of six symbols is sent instead")
    write_synthetic(folder / "day.parquet", symbols=6, rows=RECORDED_TICKS, seed=1)
    return folder / "day.parquet"


def synthetic(folder: Path) -> Path:
    write_synthetic(folder / "day.parquet", symbols=SYMBOLS, rows=SYNTHETIC_TICKS, seed=2)
    return folder / "day.parquet"


@pytest.mark.real
@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("tape", [recorded, synthetic])
async def test_after_kills_the_store_equals_a_recomputation(tape: object, server_stack: Stack, tmp_path: Path) -> None:
    path = tape(tmp_path)  # type: ignore[operator]
    ticks = pq.read_metadata(path).num_rows
    began_s = time.monotonic()
    with scene(server_stack, tmp_path) as made:
        await made.begin()
        for number in (0, 1):
            made.start(number)
        await made.shared()
        sending = made.send(path, 3)
        await killed_again_and_again(made, ticks)
        await ended(sending, 600)
        await made.reached(await made.ends(), 600)
        print(f"sent and stored within {time.monotonic() - began_s:.0f} s, {KILLS} kills in it")
        stored, bars = await asyncio.to_thread(Recomputed(path, tmp_path).check, made.dsn, made.session)
        print(f"{stored:,} ticks and {bars:,} bars equal DuckDB's; all in {time.monotonic() - began_s:.0f} s")
        assert stored == ticks


async def killed_again_and_again(made: Scene, ticks: int) -> None:
    """Each worker in turn, while the other and the feed go on; its successor begins at once."""
    for kill in range(KILLS):
        await made.handled(ticks // (KILLS + 2), 300)
        made.kill(kill % 2)
        made.start(kill % 2)
