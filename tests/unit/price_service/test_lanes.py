"""Followers in lanes, and the hub that flushes them."""

from __future__ import annotations

from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import ManualClock
from price_service.domain.days import Snapshot
from price_service.live.framings import EVENTS
from price_service.live.hub import Hub
from price_service.live.lanes import Lanes
from tests.unit.price_service.made import RECEIVED_MS, trade
from tests.unit.price_service.sinks import WORDS, Kept, items


def lanes_of(count: int) -> Lanes:
    return Lanes(ManualClock(), lambda: None, count, unsent_bytes_max=10, stuck_s=30.0)


def flush(lanes: Lanes, **values: int) -> None:
    lanes.publish(items(**values))
    for lane in lanes.lanes:
        lane.flush()


def test_clients_are_spread_evenly_and_each_is_served_in_its_own_lane() -> None:
    lanes, sinks = lanes_of(3), [Kept() for _ in range(7)]
    joined = [lanes.join(["A"], sink, WORDS) for sink in sinks]
    assert sorted(map(len, lanes.lanes)) == [2, 2, 3]
    flush(lanes, A=1, B=1)
    assert [sink.read() for sink in sinks] == [["A=1"]] * 7
    for follower in joined:
        lanes.change(follower, ["B"])
    flush(lanes, A=2)
    assert [sink.read() for sink in sinks] == [["B=1"]] * 7
    assert [lanes.leave(follower) for follower in joined] == [True] * 7
    assert not lanes.leave(joined[0])
    assert len(lanes) == 0
    assert (lanes.counts.frames, lanes.counts.writes) == (14, 14)


def test_a_frame_is_made_once_for_all_lanes() -> None:
    lanes, sinks = lanes_of(2), [Kept(), Kept()]
    for sink in sinks:
        lanes.join(["A"], sink, WORDS)
    flush(lanes)
    lanes.publish(items(A=1))
    made: list[bytes] = []
    for lane in lanes.lanes:
        lane.flush()
        made.append(lane._wires[WORDS].frame("A", lane._items["A"]))
    assert made[0] is made[1]
    assert [sink.read() for sink in sinks] == [["A=1"], ["A=1"]]


def test_lanes_share_heartbeats() -> None:
    lanes, sinks = lanes_of(2), [Kept(), Kept()]
    for sink in sinks:
        lanes.join(["A"], sink, WORDS)
    flush(lanes)
    for _ in lanes.beating():
        pass
    assert [sink.read() for sink in sinks] == [["beat"], ["beat"]]


async def test_each_lane_begins_with_what_is_newest_by_then() -> None:
    clock = ManualClock()
    hub = Hub(MemoryBus(clock), MemoryCache(clock), Nothing(), clock, flush_ms=20, stale_after_ms=5_000)

    class Reader(Kept):
        """Its write takes so long that another tick comes meanwhile."""

        def write(self, data: bytes) -> None:
            super().write(data)
            hub.table.tick(trade(2, 6_000_000), 0, RECEIVED_MS)

    first, second = Reader(), Kept()
    for sink in (first, second):
        hub.followers.join(["AAPL"], sink, EVENTS)
    hub.table.tick(trade(1, 5_000_000), 0, RECEIVED_MS)
    await hub._flush()
    assert b'"price":5.00' in first.taken[0]
    assert b'"price":6.00' in second.taken[0]


class Nothing:
    async def snapshot(self) -> Snapshot:
        return Snapshot({}, [])
