"""Two workers of the price service as real processes share the partitions; one is killed in the middle of the feed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from exchange_gateway.simulator.tape import write_synthetic
from infra.stack.stack import Stack
from tests.ingest_scene import ended, scene
from tests.recomputed import Recomputed

TICKS = 50_000
TICKS_A_SECOND = 8_000


@pytest.mark.real
@pytest.mark.timeout(180)
async def test_of_two_workers_one_is_killed_and_nothing_is_lost_or_doubled(server_stack: Stack, tmp_path: Path) -> None:
    tape = tmp_path / "tape.parquet"
    write_synthetic(tape, symbols=50, rows=TICKS, seed=7)
    with scene(server_stack, tmp_path) as made:
        await made.begin()
        for number in (0, 1):
            made.start(number)
        await made.shared()
        sending = made.send(tape, 7, TICKS_A_SECOND)
        await made.handled(TICKS // 10, 60)
        made.kill(0)
        killed_s, ends = time.monotonic(), await made.ends()
        await made.reached(ends, 60)
        print(f"the other worker had taken over {time.monotonic() - killed_s:.1f} s after the kill")
        await ended(sending, 60)
        await made.reached(await made.ends(), 60)
        ticks, bars = Recomputed(tape, tmp_path).check(made.dsn, made.session)
        assert ticks == TICKS
        assert bars > 0
