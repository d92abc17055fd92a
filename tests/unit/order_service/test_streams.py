"""The order stream: replay and live without a gap or a double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from infra.bus import Message
from infra.contracts import ORDER_EVENTS
from infra.principal import Principal
from order_service.store.unit import Unit, Want
from order_service.streams.fanout import Fanout, Follower
from order_service.streams.routes import frames
from tests.unit.order_service.house import GOOD, House, house
from tests.unit.order_service.makers import INVESTOR


@pytest.fixture
async def home() -> AsyncIterator[House]:
    async with house(order_stream_queue_max=3) as opened:
        yield opened


async def placed(home: House, count: int) -> list[Message]:
    """Place orders; the messages that the relay would make of them, which are not on the bus yet."""
    async with home.client() as client:
        for _ in range(count):
            assert (await client.post("/orders", json=GOOD)).status_code == 201
    events = [row for row in home.store.outbox if row.aggregatetype == ORDER_EVENTS][-count:]
    return [Message(ORDER_EVENTS, 0, 0, row.aggregateid.encode(), row.payload.encode(), (), 0) for row in events]


def ids_of(received: list[bytes]) -> list[int]:
    return [int(one.split(b"\n")[0].removeprefix(b"id: ")) for one in received]


async def take(stream: AsyncIterator[bytes], count: int) -> list[int]:
    async with asyncio.timeout(5):
        return ids_of([await anext(stream) for _ in range(count)])


def open_stream(home: House, after: int | None) -> tuple[Fanout, Follower, AsyncIterator[bytes]]:
    fanout = home.doors.fanout
    follower = fanout.follow(1)
    return fanout, follower, frames(home.store, fanout, INVESTOR, follower, after)


async def test_live_events_come_in_the_api_s_words(home: House) -> None:
    fanout, _, stream = open_stream(home, None)
    fanout.hand_out(await placed(home, 1))
    async with asyncio.timeout(5):
        data = await anext(stream)
    assert data.startswith(b"id: 1\nevent: order\ndata: {")
    assert b'"type":"OrderPlaced","accountId":1,"accountSeq":1,' in data
    assert b'"amount":580.25,' in data


async def test_replay_then_live_without_doubles(home: House) -> None:
    messages = await placed(home, 3)
    fanout, _, stream = open_stream(home, 1)
    fanout.hand_out(messages[1:])  # the same events live, while the replay goes on
    assert await take(stream, 2) == [2, 3]
    fanout.hand_out(await placed(home, 1))
    assert await take(stream, 1) == [4]


async def test_a_hole_in_the_live_events_is_filled_from_the_store(home: House) -> None:
    fanout, _, stream = open_stream(home, 0)
    messages = await placed(home, 3)
    fanout.hand_out(messages[:1])
    assert await take(stream, 3) == [1, 2, 3]
    later = await placed(home, 3)
    fanout.hand_out(later[2:])
    assert await take(stream, 3) == [4, 5, 6]


async def test_a_slow_client_is_let_go_and_others_are_not(home: House) -> None:
    fanout, _, slow = open_stream(home, None)
    _, _, quick = open_stream(home, None)
    for expected in range(1, 6):
        fanout.hand_out(await placed(home, 1))
        assert await take(quick, 1) == [expected]
    with pytest.raises(StopAsyncIteration):
        await take(slow, 1)
    assert await take(open_stream(home, 0)[2], 5) == [1, 2, 3, 4, 5]


async def test_events_of_others_and_garbage_are_passed_over(home: House) -> None:
    fanout, _, stream = open_stream(home, None)
    (good,) = await placed(home, 1)
    for key, value in ((b"1", b"{"), (b"2", good.value), (b"x", b""), (None, None), ("²".encode(), b"{}")):
        fanout.hand_out([Message(ORDER_EVENTS, 0, 0, key, value, (), 0)])
    fanout.hand_out([good])
    assert await take(stream, 1) == [1]


async def test_leaving_forgets_the_follower(home: House) -> None:
    fanout, _, stream = open_stream(home, None)
    fanout.hand_out(await placed(home, 1))
    await take(stream, 1)
    await stream.aclose()  # type: ignore[attr-defined]
    assert not fanout._followers


@pytest.mark.parametrize(
    ("role", "account", "query", "code"),
    [
        ("back_office", None, "", "account_required"),
        ("investor", 1, "?accountId=2", "account_unknown"),
        ("investor", 1, "?since=-1", "parameter_invalid"),
        ("investor", 1, "?since=x", "parameter_invalid"),
        ("investor", 1, "?since=1", "parameter_invalid"),
    ],
)
async def test_what_a_stream_refuses(home: House, role: str, account: int | None, query: str, code: str) -> None:
    async with home.client(account, role) as client:
        assert (await client.get(f"/orders/stream{query}")).json()["code"] == code
    assert home.doors.fanout.accounts() == []


async def test_the_desk_answers_when_the_store_is_away(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    write, failures = home.store.write, 2

    async def shaky(asker: Principal, want: Want, decide: Callable[[Unit], Any]) -> Any:
        nonlocal failures
        answer = await write(asker, want, decide)
        if failures:
            failures -= 1
            raise ConnectionError("the answer got lost")
        return answer

    monkeypatch.setattr(home.store, "write", shaky)
    async with home.client() as client:
        answer = await client.post("/orders", json=GOOD)
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (201, False)
        assert len((await client.get("/orders")).json()["orders"]) == 1
        failures = 10**6
        monkeypatch.setattr("order_service.placing.desk.STORE_PATIENCE_S", 0.0)
        answer = await client.post("/orders", json=GOOD)
        assert answer.json()["code"] == "store_unavailable"
