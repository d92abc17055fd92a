"""The virtual loop: time jumps, the same run twice, and processes that die or stand still at any await."""

from __future__ import annotations

import asyncio

import pytest

from infra.clock import wait
from tests.simulation.virtual import Process, Stuck, VirtualClock, VirtualLoop, run


def ignore(_: Process) -> None:
    """Nobody watches."""


def test_a_day_passes_at_once_and_timers_fire_in_their_order() -> None:
    seen: list[tuple[str, float]] = []

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)

        async def after(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, clock.monotonic_s()))

        began_ns = clock.now_ns()
        await asyncio.gather(after("day", 86_400), after("hour", 3600), after("now", 0))
        assert clock.now_ns() - began_ns == 86_400 * 10**9

    run(main)
    assert seen == [("now", 0), ("hour", 3600), ("day", 86_400)]


def test_a_killed_process_does_nothing_more_not_even_finally() -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            done.append("began")
            await asyncio.sleep(10)
            done.append("went on")
        finally:
            done.append("cleaned up")

    async def main(loop: VirtualLoop) -> None:
        process = Process("api", ignore)
        process.spawn(work(), loop)
        loop.call_later(5, loop.kill, process)
        await asyncio.sleep(60)
        assert done == ["began"]

    run(main)


def test_a_fuse_kills_at_the_nth_callback_wherever_that_is() -> None:
    steps: list[int] = []

    async def work() -> None:
        for i in range(100):
            steps.append(i)
            await asyncio.sleep(0)

    async def main(loop: VirtualLoop) -> None:
        process = Process("api", loop.kill)
        process.fuse = 5
        process.spawn(work(), loop)
        await asyncio.sleep(1)
        assert process.state == "dead"

    run(main)
    assert steps == [0, 1, 2, 3]


def test_a_stalled_process_goes_on_where_it_was() -> None:
    seen: list[float] = []

    async def work(loop: VirtualLoop) -> None:
        for _ in range(4):
            await asyncio.sleep(1)
            seen.append(loop.time())

    async def main(loop: VirtualLoop) -> None:
        process = Process("api", ignore)
        task = process.spawn(work(loop), loop)
        loop.call_later(1.5, loop.stall, process)
        loop.call_later(10, loop.resume, process)
        await task

    run(main)
    assert seen == [1, 10, 11, 12]


def test_a_world_in_which_nothing_can_happen_says_so() -> None:
    async def main(loop: VirtualLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="nothing will do"):
        run(main)


def test_waiting_for_stop_ends_with_the_time() -> None:
    async def main(loop: VirtualLoop) -> float:
        await wait(asyncio.Event(), 3.5)
        return loop.time()

    assert run(main) == 3.5
