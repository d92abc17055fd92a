"""What every switch store does, in memory and on PostgreSQL: the last word is kept, and everybody is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import pytest

from infra.bus_memory import MemoryBus
from infra.clock import Ids, ManualClock
from infra.contracts import EVENT_ID, SWITCHES, Switch, decode
from infra.db import driver, engine
from infra.principal import Principal
from infra.switches import MemorySwitches, SwitchStore
from infra.switches_pg import PgSwitches

OPERATOR = Principal("operator-1", "operator")
OTHER = Principal("operator-2", "operator")

# What was said to the others, in order: (topic, key, event id, value).
Said = Callable[[], Awaitable[list[tuple[str, str, str, str]]]]


@dataclass
class Rig:
    store: SwitchStore
    said: Said
    clock: ManualClock


@pytest.fixture(params=["memory", pytest.param("pg", marks=pytest.mark.real)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    clock = ManualClock()
    if request.param == "memory":
        bus = MemoryBus(clock)

        async def records() -> list[tuple[str, str, str, str]]:
            found = await (await bus.read([SWITCHES], "earliest")).batch(100, 0)
            headers = [(m.header(EVENT_ID) or b"").decode() for m in found]
            return [
                (m.topic, (m.key or b"").decode(), h, (m.value or b"").decode())
                for m, h in zip(found, headers, strict=True)
            ]

        yield Rig(MemorySwitches(bus.producer(), clock, Ids(clock)), records, clock)
        return
    source = engine(request.getfixturevalue("orders_db"), "test")

    async def rows() -> list[tuple[str, str, str, str]]:
        async with driver(source) as connection:
            cursor = await connection.execute(
                "SELECT aggregatetype, aggregateid, id::text, payload FROM outbox ORDER BY seq"
            )
            return cast("list[tuple[str, str, str, str]]", await cursor.fetchall())

    yield Rig(PgSwitches(source, clock, Ids(clock)), rows, clock)
    await source.dispose()


async def test_there_is_none_at_first(rig: Rig) -> None:
    assert await rig.store.all() == []


async def test_the_last_word_on_each_scope_is_kept(rig: Rig) -> None:
    await rig.store.set(OPERATOR, "symbol:AAPL", "reduce_only", "thin book")
    await rig.store.set(OPERATOR, "global", "cancel_only", "it's \u201cquoted\u201d \\ ∑")
    rig.clock.advance(1.5)
    lifted = await rig.store.set(OTHER, "global", "normal", "over")
    assert lifted == Switch(scope="global", mode="normal", reason="over", by="operator-2", at_ns=rig.clock.now_ns())
    assert [(s.scope, s.mode, s.by) for s in await rig.store.all()] == [
        ("global", "normal", "operator-2"),
        ("symbol:AAPL", "reduce_only", "operator-1"),
    ]


async def test_each_change_is_told_as_it_was_answered(rig: Rig) -> None:
    answered = [
        await rig.store.set(OPERATOR, "account:7", "cancel_only", "asked by compliance: it's ∑"),
        await rig.store.set(OPERATOR, "account:7", "normal", "over"),
        await rig.store.set(OPERATOR, "global", "reduce_only", "drill"),
    ]
    said = await rig.said()
    assert [decode(Switch, value.encode()) for *_, value in said] == answered
    assert [(topic, key) for topic, key, *_ in said] == [(SWITCHES, switch.scope) for switch in answered]
    assert len({event_id for _, _, event_id, _ in said}) == 3
