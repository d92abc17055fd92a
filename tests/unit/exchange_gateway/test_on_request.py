"""Ticks on request: published as those of the feed, bounded, asked once for all who wait, and clear when refused."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from exchange_gateway.feed import on_request
from exchange_gateway.feed.on_request import OnRequest, Resend, Resent, Unanswered
from exchange_gateway.feed.routes import routes
from exchange_gateway.venue import NewestTicks, ResentTicks, VenueAway
from infra.bus import BusError
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import PRICES, Quote, encode
from tests.unit.exchange_gateway.words import read_all

SESSION = 1_700_000_000
ODD = b'{"k":"T", "s":"AAPL","d":1700000000,"q":1,"t":5,"p":99990000,"z":1,"later":{"a":2}}'
QUOTE = encode(Quote(s="AAPL", d=SESSION, q=2, t=1, b=1, bz=1, a=2, az=2))
ASKED = Resend("AAPL", SESSION, 1, 9)


class Market:
    """A venue that answers when it is let; it knows AAPL alone."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[Any] = []
        self.now = self.most = 0
        self.away = False

    async def newest(self, symbol: str) -> NewestTicks | None:
        await self._wait(symbol)
        known = NewestTicks("AAPL", SESSION, [msgspec.Raw(ODD), msgspec.Raw(QUOTE)])
        return known if symbol == "AAPL" else None

    async def resend(self, session: int, symbol: str, first: int, last: int) -> ResentTicks:
        await self._wait((session, symbol, first, last))
        return ResentTicks([msgspec.Raw(ODD), msgspec.Raw(b'{"s":1}')], [(2, 9)])

    async def _wait(self, question: Any) -> None:
        self.asked.append(question)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
            if self.away:
                raise VenueAway("connection refused")
        finally:
            self.now -= 1


class Room:
    def __init__(self, in_flight_max: int = 4, answer_s_max: float = 5.0) -> None:
        self.bus, self.market = MemoryBus(ManualClock()), Market()
        self.asked = OnRequest(self.market, self.bus.producer(), in_flight_max, answer_s_max)
        app = FastAPI()
        app.include_router(routes(self.asked))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


async def test_a_quote_is_answered_and_on_the_bus_in_the_venue_s_bytes() -> None:
    room = Room()
    answer = await room.client.get("/quotes/AAPL")
    assert answer.status_code == 200
    assert answer.content == b'{"symbol":"AAPL","session":1700000000,"ticks":[%b,%b]}' % (ODD, QUOTE)
    records = await read_all(room.bus, PRICES)
    assert [(r.key, r.value) for r in records] == [(b"AAPL", ODD), (b"AAPL", QUOTE)]
    assert records[1].header("event-id") == b"AAPL-1700000000-2"
    assert [name for name, _ in records[0].headers] == ["event-id", "idempotency-key", "traceparent", "schema"]


async def test_missing_ticks_are_published_and_counted_and_what_is_gone_is_said() -> None:
    room = Room()
    body = {"symbol": "AAPL", "session": SESSION, "from": 1, "to": 9}
    answer = await room.client.post("/feed/resend", json=body)
    assert (answer.status_code, answer.json()) == (200, {"published": 1, "missing": [[2, 9]]})
    assert [r.value for r in await read_all(room.bus, PRICES)] == [ODD]
    assert room.market.asked == [(SESSION, "AAPL", 1, 9)]


async def test_one_question_at_the_venue_for_all_who_ask_the_same() -> None:
    room = Room()
    room.market.open.clear()
    asking = [asyncio.create_task(room.asked.newest("AAPL")) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()  # who goes away takes the answer from nobody
    while not room.market.asked:  # noqa: ASYNC110 - the venue is asked by another task
        await asyncio.sleep(0)
    room.market.open.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, NewestTicks) for answer in answers[1:])
    assert room.market.asked == ["AAPL"]
    assert len(await read_all(room.bus, PRICES)) == 2
    await room.asked.newest("AAPL")
    assert room.market.asked == ["AAPL"] * 2, "a later question is a new one"


async def test_so_many_at_the_venue_at_one_time() -> None:
    room = Room(in_flight_max=3)
    await asyncio.gather(*(room.asked.newest(f"S{n}") for n in range(20)))
    assert (len(room.market.asked), room.market.most) == (20, 3)


async def test_so_many_that_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_request, "QUESTIONS_MAX", 2)
    room = Room()
    room.market.open.clear()
    asking = [asyncio.create_task(room.asked.newest(symbol)) for symbol in ("A", "B")]
    await asyncio.sleep(0)
    with pytest.raises(Unanswered) as busy:
        await room.asked.newest("C")
    assert busy.value.code == "busy"
    room.market.open.set()
    assert await asyncio.gather(*asking) == [None, None]
    assert await room.asked.newest("C") is None


async def test_a_venue_that_does_not_answer_is_a_503_and_nothing_sticks() -> None:
    room = Room(answer_s_max=0.02)
    room.market.open.clear()
    late = await room.client.get("/quotes/AAPL")
    room.market.open.set()
    room.market.away = True
    away = await room.client.post("/feed/resend", content=encode(ASKED))
    for answer in (late, away):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "venue_unavailable")
        assert answer.headers["retry-after"] == "1"
    room.market.away = False
    assert (await room.client.get("/quotes/AAPL")).status_code == 200
    assert await room.asked.resend(ASKED) == Resent(1, [(2, 9)])


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_bus_that_takes_nothing_is_a_503(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room, full = Room(), BusError("the producer's queue is full")

    def send(*_: Any) -> asyncio.Future[None]:
        if when == "at once":
            raise full
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent.set_exception(full)
        return sent

    monkeypatch.setattr(on_request, "send_tick", send)
    answer = await room.client.get("/quotes/AAPL")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "bus_unavailable")


async def test_an_unknown_symbol_is_a_404() -> None:
    answer = await Room().client.get("/quotes/ZZZ")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_symbol")


@pytest.mark.parametrize("symbol", ["1A", "A%20B", "A" * 17, "%C3%84", "-A"])
async def test_what_cannot_be_a_symbol_is_not_asked(symbol: str) -> None:
    room = Room()
    answer = await room.client.get(f"/quotes/{symbol}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_symbol")
    assert room.market.asked == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"symbol": "A B"}, "invalid_symbol"),
        ({"from": 0}, "malformed"),
        ({"from": 10}, "malformed"),
        ({"to": 1 << 61, "from": (1 << 61) - 1}, "malformed"),
        ({"session": -1}, "malformed"),
        ({"session": "1"}, "malformed"),
        ({"to": 1001}, "too_many_ticks"),
    ],
)
async def test_what_cannot_be_sent_again_is_not_asked(change: dict[str, Any], code: str) -> None:
    room = Room()
    body = {"symbol": "AAPL", "session": SESSION, "from": 1, "to": 9} | change
    answer = await room.client.post("/feed/resend", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert room.market.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}", b" " * 5000])
async def test_a_body_that_makes_no_sense_is_a_422(body: bytes) -> None:
    answer = await Room().client.post("/feed/resend", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "malformed")
