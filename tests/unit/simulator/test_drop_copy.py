"""The drop copy: numbers without holes, from any number that is still kept."""

from __future__ import annotations

import asyncio
import json

import pytest

from exchange_gateway.simulator.drop_copy import AheadOfVenue, DropCopy
from exchange_gateway.simulator.messages import Numbered
from tests.unit.simulator.made import Floor


def reports(count: int) -> list[Numbered]:
    floor = Floor()
    for _ in range(count):
        floor.order("BUY 1 @ 990")
    return floor.all


def test_reading_from_any_number_and_in_turns() -> None:
    drop_copy = DropCopy()
    drop_copy.add(reports(5))
    n, frames = drop_copy.read(0, 3)
    assert (n, [json.loads(f)["n"] for f in frames]) == (3, [1, 2, 3])
    n, frames = drop_copy.read(n, 3)
    assert (n, [json.loads(f)["n"] for f in frames]) == (5, [4, 5])
    assert drop_copy.read(5, 3) == (5, [])
    assert json.loads(drop_copy.read(4, 1)[1][0])["report"]["exec_id"].endswith("-5")


def test_what_is_forgotten_is_announced() -> None:
    drop_copy = DropCopy()
    drop_copy.add(reports(5))
    drop_copy.forget(3)
    n, frames = drop_copy.read(1, 10)
    assert json.loads(frames[0]) == {"gap": {"from": 2, "to": 3}}
    assert [json.loads(f)["n"] for f in frames[1:]] == [4, 5]
    assert n == 5
    drop_copy.forget(0)
    drop_copy.forget(5)
    assert drop_copy.last_n == 5


def test_a_number_that_was_never_reached_is_refused() -> None:
    drop_copy = DropCopy()
    drop_copy.add(reports(2))
    drop_copy.check(2)
    with pytest.raises(AheadOfVenue):
        drop_copy.check(3)


def test_a_hole_is_a_bug() -> None:
    drop_copy = DropCopy()
    with pytest.raises(AssertionError):
        drop_copy.add(reports(3)[1:])


@pytest.mark.parametrize("turns", range(6))
async def test_a_reader_is_told_whenever_a_report_comes(turns: int) -> None:
    """Whatever the reader is just doing: the next report comes `turns` steps of the event loop after the last one."""
    drop_copy = DropCopy()
    read: list[str] = []

    async def follow() -> None:
        n = 0
        while len(read) < 20:
            n, frames = await drop_copy.next(n, 3)
            read.extend(frames)
            await asyncio.sleep(0)

    reading = asyncio.create_task(follow())
    for numbered in reports(20):
        drop_copy.add([numbered])
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.wait_for(reading, 2)
    assert [json.loads(f)["n"] for f in read] == list(range(1, 21))
