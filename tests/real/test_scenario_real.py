"""A bad day on real servers: 10,000 orders from 50 accounts, every misbehaviour of the venue, and each of our processes
killed twice. The checks are those of the simulation, from outside: the database, the bus, the venue's journal on disk.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from exchange_gateway.simulator.journal_reader import read_all
from infra.stack.processes import SERVICES
from infra.stack.stack import Stack
from tests.chaos.test_kills import kill
from tests.flow.walking import FINAL, Doors, all_orders, all_quoted, eventually
from tests.real.scenario import FORGETS, Client, Told, open_accounts, ours, shown, write_scenario
from tests.real.system import running
from tests.simulation.invariants import Excuses, findings
from tests.simulation.truth import truth
from tests.tape_files import facts, write_slice

SEED = 20
ORDERS, ACCOUNTS = 10_000, range(101, 151)
PAUSE_S = 0.5
BETWEEN_KILLS_S = 6.0
TICKS, SPEED = 100_000, 5


@pytest.mark.real
@pytest.mark.full
@pytest.mark.timeout(900)
async def test_a_bad_day_on_real_servers(tmp_path: Path) -> None:
    tape = write_slice(tmp_path / "tape.parquet", TICKS)
    expected, scenario = facts(tape), write_scenario(tmp_path / "scenario.json")
    variables = {
        "XGW_TAPE": str(tape),
        "XGW_TAPE_SPEED": f"{SPEED}x",
        "XGW_CHAOS_ALLOWED": "1",
        "XGW_CHAOS_SEED": str(SEED),
        "XGW_SCENARIO": str(scenario),
        "XGW_SNAPSHOT_INTERVAL_S": "20",
    }
    print(f"seed {SEED}")
    with running(variables) as (stack, doors):
        dsn = stack.settings.infra.dsn("orders")
        await all_quoted(doors, expected)
        await open_accounts(dsn, ACCOUNTS, sorted(expected.rows))
        began_s, told = time.monotonic(), Told()
        await asyncio.gather(trade(doors, told), kill_everyone_twice(stack, doors))
        took_s = time.monotonic() - began_s
        print(f"{len(told.orders)} orders in {took_s:.0f} s, refused {dict(told.refused)}")
        assert not told.conflicts, told.conflicts
        assert len(told.orders) > ORDERS / 2, told.refused
        await good_weather(doors)
        await nothing_is_open(doors)
        await eventually("no check finds anything", lambda: right(stack, doors, dsn, told), 240, 15)


async def trade(doors: Doors, told: Told) -> None:
    async with doors.client() as reader:
        quotes = {q["symbol"]: q for q in (await reader.get("/stockPrices")).json()["quotes"]}
    each = ORDERS // len(ACCOUNTS)
    await asyncio.gather(*(Client(doors, account, quotes, SEED, told).trade(each, PAUSE_S) for account in ACCOUNTS))


async def kill_everyone_twice(stack: Stack, doors: Doors) -> None:
    """In the middle of it the venue loses its memory once."""
    for name in SERVICES:
        await asyncio.sleep(BETWEEN_KILLS_S)
        await kill(stack, name)
    async with doors.venue() as venue:
        (await venue.post("/chaos", json={"rules": [FORGETS]})).raise_for_status()
    for name in reversed(SERVICES):
        await asyncio.sleep(BETWEEN_KILLS_S)
        await kill(stack, name)


async def good_weather(doors: Doors) -> None:
    async def cleared() -> bool:
        async with doors.venue() as venue:
            return (await venue.delete("/chaos")).status_code == 200

    await eventually("the venue behaves", cleared, 30)


async def nothing_is_open(doors: Doors) -> None:
    """Cancel what rests, so that prices move nothing any more; what the venue forgot stays as it is."""
    clients = {account: doors.client("investor", account) for account in ACCOUNTS}

    async def cancel(order: dict[str, object]) -> None:
        answer: httpx.Response = await clients[int(str(order["accountId"]))].delete(f"/orders/{order['id']}")
        assert answer.status_code < 500, answer.text

    async def ended() -> bool:
        live = [order for order in (await all_orders(doors)).values() if order["status"] not in FINAL]
        asked = [order for order in live if order["pending"] is None and order["outcome"] != "unknown"]
        for order in asked:
            await cancel(order)
        rejected = [o for o in live if (o["reason"] or {}).get("code") in ("unknown_order", "too_late", "given_up")]
        assert len(live) == len(rejected), (len(live), live[:2])
        return True

    try:
        await eventually("every order that the venue has is final", ended, 180, 3)
    finally:
        for client in clients.values():
            await client.aclose()


async def right(stack: Stack, doors: Doors, dsn: str, told: Told) -> bool:
    """The checks of the simulation. Reports and repairs may still be on their way, so they are made again."""
    published = await doors.inside.order_events()
    side = await ours(dsn, told, published)
    found = findings(side, truth(read_all(stack.settings.infra.run_dir / "venue")), Excuses(True, True, 0))
    print(f"{len(found)} findings; breaks {dict(shown(list(side.breaks)))}")
    assert not found, found[:10]
    return True
