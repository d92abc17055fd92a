"""The whole way on real servers, every process its own: the same walk as on the twins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.walking import walk
from tests.real.system import running
from tests.tape_files import facts, write_slice

TICKS, ORDERS = 100_000, 1_000
SPEED = 25  # the slice is twenty minutes of the recorded day


@pytest.mark.real
@pytest.mark.timeout(300)
async def test_a_tape_and_a_thousand_orders_travel_the_whole_way(tmp_path: Path) -> None:
    tape = write_slice(tmp_path / "tape.parquet", TICKS)
    expected = facts(tape)
    assert sum(expected.rows.values()) == TICKS
    variables = {"XGW_TAPE": str(tape), "XGW_TAPE_SPEED": f"{SPEED}x", "XGW_TAPE_LOOPS": "1"}
    with running(variables) as (_, doors):
        await walk(doors, expected, ORDERS, play_s=150)
