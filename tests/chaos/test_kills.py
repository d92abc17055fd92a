"""SIGKILL each of our processes in the middle of traffic: it comes back by itself, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from infra.stack.processes import SERVICES
from infra.stack.stack import Stack
from tests.flow.walking import (
    Doors,
    PriceWatcher,
    all_quoted,
    cancel_what_rests,
    check_books,
    check_events,
    check_prices,
    check_ticks_contiguous,
    eventually,
    place_orders,
    played,
)
from tests.real.system import running
from tests.tape_files import TapeFacts, facts, write_slice

TICKS, ORDERS = 100_000, 600
SPEED = 15
BETWEEN_ORDERS_S = 0.6


@pytest.mark.real
@pytest.mark.full
@pytest.mark.timeout(600)
async def test_every_process_is_killed_once_during_traffic(tmp_path: Path) -> None:
    tape = write_slice(tmp_path / "tape.parquet", TICKS)
    expected = facts(tape)
    variables = {"XGW_TAPE": str(tape), "XGW_TAPE_SPEED": f"{SPEED}x", "XGW_TAPE_LOOPS": "1"}
    with running(variables) as (stack, doors):
        await all_quoted(doors, expected)
        watcher = PriceWatcher(doors, sorted(expected.rows))
        watching = asyncio.create_task(watcher.run())
        try:
            placing = asyncio.create_task(place_orders(doors, ORDERS, seed=11, pause_s=BETWEEN_ORDERS_S))
            for name in SERVICES:
                await traffic_flows(doors)
                await kill(stack, name)
            placed = await placing
            await eventually("the tape was played to its end", lambda: played(doors, expected), 240, 0.5)
            await eventually("the last pass is stored whole", lambda: last_pass_stored(doors, expected), 60, 0.5)
            await check_prices(doors, expected, watcher)
        finally:
            watching.cancel()
        final = await cancel_what_rests(doors, 120)
        await check_ticks_contiguous(doors)
        await check_books(doors, placed, final)
        await eventually("every change is on order-events", lambda: events_right(doors, final), 30, 0.5)


async def kill(stack: Stack, name: str) -> None:
    """SIGKILL, then wait until the supervisor has started it again and it says that it is ready."""
    before = stack.pid(name)
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        return stack.pid(name) not in (0, before)

    await eventually(f"{name} runs again", back, 30)
    await asyncio.to_thread(stack.wait_ready, name, 60)


async def traffic_flows(doors: Doors) -> None:
    """More ticks are stored than before, so the next kill hits a working system."""
    before = sum(rows for rows, _, _ in (await doors.inside.tick_counts()).values())

    async def more() -> bool:
        return sum(rows for rows, _, _ in (await doors.inside.tick_counts()).values()) > before + 500

    await eventually("ticks are being stored", more, 60, 0.25)


async def last_pass_stored(doors: Doors, expected: TapeFacts) -> bool:
    counts = await doors.inside.tick_counts()
    last = max(session for _, session in counts)
    assert {symbol: rows for (symbol, session), (rows, _, _) in counts.items() if session == last} == expected.rows
    return True


async def events_right(doors: Doors, orders: dict[str, dict[str, object]]) -> bool:
    await check_events(doors, orders)
    return True
