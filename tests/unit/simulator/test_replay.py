"""The replay on a tape clock: sessions, sequence numbers, fills by the tape, and when it waits."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from exchange_gateway.simulator.columns import Tape
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.messages import NewOrder
from exchange_gateway.simulator.replay import Pace, Replay, next_session
from exchange_gateway.simulator.ring import Reader, Ring
from exchange_gateway.simulator.synthetic import OPEN_NS
from exchange_gateway.simulator.tape import synthetic
from exchange_gateway.simulator.venue import Venue
from infra.clock import NS_PER_S, ManualClock

OPEN_S = OPEN_NS // NS_PER_S
ROWS = 3000


class Exchange:
    """A replay without sockets and without memory."""

    def __init__(self, pace: Pace, ring_ticks: int = 1_000_000, tape: Tape | None = None) -> None:
        self.tape = tape or synthetic(5, ROWS, seed=1)
        self.drop_copy = DropCopy()
        self.desk = Desk(Venue(), self.drop_copy, None, lambda _: None, ManualClock(OPEN_NS))
        self.feed = Feed(Ring(ring_ticks), ring_ticks // 2)
        self.replay = Replay(self.tape, self.desk, self.feed, pace, ManualClock(OPEN_NS))
        self.replay.prepare()
        self.stop = asyncio.Event()

    async def until(self, condition: Any, deadline_s: float = 10) -> None:
        async with asyncio.timeout(deadline_s):
            while not condition():  # noqa: ASYNC110 - the condition is another task's progress
                await asyncio.sleep(0)

    async def played(self, passes: int) -> None:
        """Run until that many passes have ended."""
        running = asyncio.create_task(self.replay.run(self.stop))
        await self.until(lambda: [s["open"] for s in self.feed.sessions()] == [False] * passes)
        self.stop.set()
        await asyncio.wait_for(running, 5)


def told(reader: Reader) -> list[dict[str, Any]]:
    frames = []
    while (text := reader.next()) is not None:
        frames.append(json.loads(text))
    return frames


FAST = Pace(speed=None, loops=2, session_pause_s=0, waits_for_client=False, tape_clock=True, frame_ticks_max=64)


async def test_two_sessions_with_sequences_without_holes() -> None:
    exchange = Exchange(FAST)
    reader = exchange.feed.join(None, None)
    playing = asyncio.create_task(exchange.played(2))
    frames: list[dict[str, Any]] = []
    while not playing.done():
        frames += told(reader)
        exchange.feed.moved.set()
        await asyncio.sleep(0)
    await playing
    frames += told(reader)
    statuses = [(f["status"]["kind"], f["status"]["session"]) for f in frames if f["type"] == "status"]
    sessions = [OPEN_S, OPEN_S + 1]
    assert statuses == [(kind, s) for s in sessions for kind in ("open", "close")]
    ticks = [t for f in frames if f["type"] == "ticks" for t in f["ticks"]]
    assert len(ticks) == 2 * ROWS
    assert all(len(f["ticks"]) <= 64 for f in frames if f["type"] == "ticks")
    sequences: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for tick in ticks:
        sequences[tick["d"], tick["s"]].append(tick["q"])
    assert all(q == list(range(1, len(q) + 1)) for q in sequences.values())
    first, second = ({i["symbol"]: i for i in f["instruments"]} for f in frames if f["type"] == "instruments")
    last = {t["s"]: t["p"] for t in ticks if t["d"] == OPEN_S and t["k"] == "T" and not t["c"] & 0x8000_0000}
    assert {s: i["previous_close_micros"] for s, i in second.items()} == last
    assert {i["session"] for i in first.values()} == {OPEN_S}
    listed = exchange.feed.sessions()
    assert [s["ticks"] for s in listed] == [ROWS, ROWS]
    assert listed[0]["symbols"] == {s: len(q) for (d, s), q in sequences.items() if d == OPEN_S}


async def test_at_max_speed_ticks_wait_for_a_client_and_for_a_slow_one() -> None:
    pace = Pace(speed=None, loops=1, session_pause_s=0, waits_for_client=True, tape_clock=True, frame_ticks_max=50)
    exchange = Exchange(pace, ring_ticks=1000)
    playing = asyncio.create_task(exchange.played(1))
    await exchange.until(exchange.replay.is_open)
    for _ in range(50):
        await asyncio.sleep(0)
    assert exchange.feed.sessions()[0]["ticks"] == 0, "nobody listens yet"
    reader = exchange.feed.join(None, None)
    for _ in range(200):
        await asyncio.sleep(0)
    assert exchange.feed.sessions()[0]["ticks"] <= 550, "half the ring ahead of the slowest client, and a frame"
    seen = 0
    while not playing.done():
        for text in await exchange.feed.frames(reader):
            frame = json.loads(text)
            assert frame["type"] != "gap"
            seen += len(frame.get("ticks", []))
        if seen == ROWS:
            break
    await playing
    assert seen == ROWS


async def test_the_tape_fills_resting_orders_and_the_drop_copy_tells() -> None:
    exchange = Exchange(FAST)
    symbol, listing = next(iter(exchange.tape.listings.items()))
    limit = listing.previous_close_micros * 2 // 10_000 * 10_000
    order = NewOrder(
        cl_ord_id="a", symbol=symbol, side="SELL", ord_type="LIMIT", tif="GTC", quantity=100, limit_micros=10_000
    )
    exchange.desk.venue.instruments = {symbol: None}  # type: ignore[dict-item]
    exchange.desk.submit([order, NewOrder(**_fields(order) | {"cl_ord_id": "b", "side": "BUY", "limit_micros": limit})])
    far = NewOrder(**_fields(order) | {"cl_ord_id": "c", "side": "BUY", "limit_micros": limit, "tif": "GTC"})
    exchange.desk.submit([far])
    await exchange.played(2)
    found = exchange.desk.venue.find("c")
    assert found
    assert found.status == "FILLED"
    _, frames = exchange.drop_copy.read(0, 1000)
    assert [json.loads(f)["n"] for f in frames] == list(range(1, len(frames) + 1))


def _fields(order: NewOrder) -> dict[str, Any]:
    return {name: getattr(order, name) for name in order.__struct_fields__}


async def test_at_a_pace_ticks_come_when_they_are_due() -> None:
    clock = ManualClock(OPEN_NS)
    exchange = Exchange(Pace(speed=10.0, loops=1, flush_s=0, session_pause_s=0, tape_clock=True))
    exchange.replay = Replay(
        exchange.tape, exchange.desk, exchange.feed, Pace(speed=10.0, flush_s=0, tape_clock=True), clock
    )
    exchange.replay._session = OPEN_S
    running = asyncio.create_task(exchange.replay.run(exchange.stop))
    times = [t for part in exchange.tape.play() for t in part.ts_event.tolist()]
    for seconds in (0, 30, 60, 600):
        clock.advance(seconds)
        due = sum(1 for t in times if t <= OPEN_NS + (clock.now_ns() - OPEN_NS) * 10)
        await exchange.until(lambda due=due: (exchange.feed.sessions() or [{"ticks": 0}])[0]["ticks"] >= due)
        assert exchange.feed.sessions()[0]["ticks"] == due
    exchange.stop.set()
    await asyncio.wait_for(running, 5)


@pytest.mark.parametrize(
    ("last", "now_s", "expected"), [(0, 100, 101), (50, 100, 100), (100, 100, 101), (140, 100, 141)]
)
def test_a_session_number_is_new_even_without_memory_and_when_the_clock_went_back(
    last: int, now_s: int, expected: int
) -> None:
    assert next_session(last, now_s * NS_PER_S + 5) == expected


async def test_a_venue_that_loses_its_memory_plays_its_pass_again_under_a_new_number() -> None:
    exchange = Exchange(replace(FAST, loops=1, frame_ticks_max=8))
    reader = exchange.feed.join(None, None)
    running = asyncio.create_task(exchange.replay.run(exchange.stop))
    await exchange.until(lambda: exchange.feed.sessions() and exchange.feed.sessions()[0]["ticks"] > 0)
    exchange.replay.begin_anew()
    assert exchange.desk.venue.total() == 0
    assert not exchange.replay.is_open()
    await exchange.until(lambda: [s["open"] for s in exchange.feed.sessions()] == [False, False])
    exchange.stop.set()
    await asyncio.wait_for(running, 5)
    broken, whole = exchange.feed.sessions()
    assert broken["ticks"] < whole["ticks"] == ROWS
    assert whole["session"] > broken["session"]
    statuses = [f["status"]["kind"] for f in told(reader) if f["type"] == "status"]
    assert statuses == ["open", "close", "open", "close"]
