"""Heartbeats of the order stream: where they come, what they say, and what they never do."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.process import background
from order_service.domain.lifecycle import Status
from order_service.store.ports import OpenOrder
from order_service.streams.heartbeat import Heartbeats, digest
from order_service.streams.routes import frames
from tests.unit.order_service.house import House, house
from tests.unit.order_service.makers import INVESTOR
from tests.unit.order_service.test_streams import open_stream, placed, take

NOTHING_YET = 0.05


@pytest.fixture
async def home() -> AsyncIterator[House]:
    async with house(order_stream_queue_max=3) as opened:
        yield opened


async def following(stream: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(5):
        return await anext(stream)


def said(frame: bytes) -> dict[str, Any]:
    """What a heartbeat says."""
    head, data = frame.decode().rstrip("\n").split("\n")
    assert head == "event: heartbeat"
    found: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return found


def test_the_digest_is_what_the_docstring_says() -> None:
    orders = [OpenOrder("b", 12, Status.PLACED), OpenOrder("a", 2, Status.PARTIALLY_FILLED)]
    assert digest(orders) == hashlib.sha256(b"a 2 PARTIALLY_FILLED\nb 12 PLACED\n").hexdigest()
    assert digest([]) == hashlib.sha256(b"").hexdigest()


async def test_it_comes_after_the_replay_and_names_the_open_orders(home: House) -> None:
    await placed(home, 2)
    _, _, stream = open_stream(home, 0)
    await home.doors.heartbeats.beat(1)
    assert await take(stream, 2) == [1, 2]
    beat = said(await following(stream))
    lines = "".join(f"{order_id} 1 PENDING\n" for order_id in sorted(home.store.orders))
    assert beat == {"accountSeq": 2, "openOrders": 2, "digest": hashlib.sha256(lines.encode()).hexdigest()}


async def test_a_replay_stops_for_the_heartbeat_of_its_opening(home: House) -> None:
    await placed(home, 2)
    fanout = home.doors.fanout
    follower = fanout.follow(1)
    beat = await home.doors.heartbeats.beat(1)
    fanout.hand_out(await placed(home, 1))  # while the client is still replayed to
    stream = frames(home.store, fanout, INVESTOR, follower, 0, beat.seq)
    assert await take(stream, 2) == [1, 2]
    assert said(await following(stream))["accountSeq"] == 2
    assert await take(stream, 1) == [3]


async def test_events_that_are_still_on_their_way_come_before_it_and_not_again(home: House) -> None:
    fanout, _, stream = open_stream(home, 0)
    await home.doors.heartbeats.beat(1)
    assert said(await following(stream))["accountSeq"] == 0
    late = await placed(home, 2)
    await home.doors.heartbeats.beat(1)
    assert await take(stream, 2) == [1, 2]
    assert said(await following(stream))["accountSeq"] == 2
    fanout.hand_out([*late, *await placed(home, 1)])
    assert await take(stream, 1) == [3]


async def test_one_that_newer_events_have_overtaken_is_left_to_the_next(home: House) -> None:
    fanout, follower, stream = open_stream(home, 0)
    fanout.hand_out(await placed(home, 1))
    old = await home.doors.heartbeats.beat(1)
    await following(stream)
    assert said(await following(stream))["accountSeq"] == 1
    fanout.hand_out(await placed(home, 1))
    follower.beat(old)
    await home.doors.heartbeats.beat(1)
    assert await take(stream, 1) == [2]
    assert said(await following(stream))["accountSeq"] == 2


async def test_a_store_that_is_away_ends_no_stream(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fanout, _, stream = open_stream(home, 0)

    async def away(*_: Any) -> Any:
        raise ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(home.store, "open_orders", away)
        await home.doors.heartbeats.beat(1)
        assert (await following(stream)).startswith(b": no heartbeat")
        fanout.hand_out(await placed(home, 1))
        assert await take(stream, 1) == [1]
        async with home.client() as client:
            opening = asyncio.create_task(client.get("/orders/stream"))
            await asyncio.sleep(0)
            home.doors.stop.set()
            assert (await opening).status_code == 200
        assert (await following(stream)).startswith(b": no heartbeat")  # the other opening's read is shared
    await home.doors.heartbeats.beat(1)
    assert said(await following(stream))["accountSeq"] == 1


async def test_missed_events_that_cannot_be_fetched_leave_it_out(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, stream = open_stream(home, 0)
    await home.doors.heartbeats.beat(1)
    assert said(await following(stream))["accountSeq"] == 0
    await placed(home, 1)

    async def away(*_: Any) -> Any:
        raise TimeoutError

    with monkeypatch.context() as broken:
        broken.setattr(home.store, "events_since", away)
        await home.doors.heartbeats.beat(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(NOTHING_YET):
                await anext(stream)


async def test_one_read_per_account_and_interval_however_many_streams(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    looks = 0
    read, followed = home.store.open_orders, home.doors.fanout.accounts

    async def counted(asker: Any, account_id: int) -> Any:
        reads.append(account_id)
        return await read(asker, account_id)

    def looked() -> list[int]:
        nonlocal looks
        looks += 1
        return followed()

    monkeypatch.setattr(home.store, "open_orders", counted)
    fanout = home.doors.fanout
    streams = [frames(home.store, fanout, INVESTOR, fanout.follow(1), 0) for _ in range(20)]
    monkeypatch.setattr(fanout, "accounts", looked)
    async with background(Heartbeats(home.store, fanout, every_s=3600, look_s=0.001).run), asyncio.timeout(5):
        for stream in streams:
            assert said(await anext(stream))["accountSeq"] == 0
        while looks < 5:  # noqa: ASYNC110 - it looks often, and reads once
            await asyncio.sleep(0)
    assert reads == [1]


async def test_it_comes_again_after_each_interval(home: House) -> None:
    _, _, stream = open_stream(home, 0)
    async with background(Heartbeats(home.store, home.doors.fanout, every_s=0.001, look_s=0.001).run):
        for _ in range(3):
            assert said(await following(stream))["accountSeq"] == 0


async def test_simultaneous_openings_share_a_read(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read = home.store.open_orders

    async def slow(asker: Any, account_id: int) -> Any:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return await read(asker, account_id)

    monkeypatch.setattr(home.store, "open_orders", slow)
    beats = await asyncio.gather(*(home.doors.heartbeats.beat(1) for _ in range(10)))
    assert (reads, {beat.seq for beat in beats}) == (1, {0})


async def test_a_slow_client_is_not_let_go_for_a_heartbeat(home: House) -> None:
    fanout, _, stream = open_stream(home, 0)
    await home.doors.heartbeats.beat(1)
    assert said(await following(stream))["accountSeq"] == 0
    fanout.hand_out([message for _ in range(3) for message in await placed(home, 1)])
    await home.doors.heartbeats.beat(1)  # there is no room for it
    assert await take(stream, 3) == [1, 2, 3]
    await home.doors.heartbeats.beat(1)
    assert said(await following(stream))["accountSeq"] == 3
