"""Missing ticks: what is asked for when, how often, and when it is given up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI

from infra.clock import ManualClock
from infra.telemetry import GAP_MISSING_TICKS
from price_service.domain.days import DayKey
from price_service.domain.holes import Runs, holes_in
from price_service.domain.seen import Seen
from price_service.gaps.closer import GapCloser
from price_service.gaps.plan import ANSWERS_MAX, BLOCK, BLOCKS_MAX, PAUSE_S_MAX, SHOWN_MAX, Gaps
from price_service.gaps.ports import Ask, GatewayAway, Refused
from price_service.gaps.resend_http import HttpResender
from price_service.gaps.routes import routes

SESSION = 1_700_000_000
A, B = DayKey("AAPL", SESSION), DayKey("IBM", SESSION)
WAIT_S = 3.0
MANY = 100


def asks(gaps: Gaps, found: dict[DayKey, Runs], now_s: float, asks_max: int = MANY) -> list[Ask]:
    return gaps.look(found, now_s, asks_max)


def states(gaps: Gaps) -> list[tuple[str, int, int, str]]:
    return [(line["symbol"], line["from"], line["to"], line["state"]) for line in gaps.shown(0)]


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_late_ticks_close_by_themselves() -> None:
    gaps = Gaps(WAIT_S)
    assert asks(gaps, {A: [(5, 6)]}, 0) == []
    assert gaps.missing == 2
    assert asks(gaps, {A: [(6, 6)]}, 2.9) == []
    assert asks(gaps, {A: []}, 3.1) == []
    assert (gaps.missing, gaps.closed, gaps.lost, states(gaps)) == (0, 0, 0, [])


def test_what_stays_missing_is_asked_for_once_it_is_old_enough() -> None:
    gaps = Gaps(WAIT_S)
    asks(gaps, {A: [(5, 6)]}, 0)
    assert asks(gaps, {A: [(5, 6), (9, 9)]}, 3) == [Ask("AAPL", SESSION, 5, 9)], "one request for a block"


def test_new_holes_in_a_block_wait_for_themselves() -> None:
    gaps = Gaps(WAIT_S)
    asks(gaps, {A: [(5, 6)]}, 0)
    assert asks(gaps, {A: [(8, 8)]}, 3) == [], "the old one has closed"
    assert asks(gaps, {A: [(8, 8)]}, 6) == [Ask("AAPL", SESSION, 8, 8)]


def test_patience_grows_between_requests_for_the_same() -> None:
    gaps, at, waited = Gaps(WAIT_S), WAIT_S, list[float]()
    asks(gaps, {A: [(5, 5)]}, 0)
    for _ in range(20):
        (ask,) = asks(gaps, {A: [(5, 5)]}, at)
        gaps.unanswered(ask, at)
        pause = next(s for s in (2.0 * 2**k for k in range(20)) if s >= PAUSE_S_MAX or not waited or s > waited[-1])
        waited.append(min(pause, PAUSE_S_MAX))
        assert asks(gaps, {A: [(5, 5)]}, at + waited[-1] - 0.01) == []
        at += waited[-1]
    assert waited[:4] == [2, 4, 8, 16]
    assert waited[-1] == PAUSE_S_MAX, "a gateway that is away is asked for ever, but rarely"


def test_what_the_venue_does_not_have_is_lost_and_never_asked_for_again() -> None:
    gaps, found = Gaps(WAIT_S), {A: [(5, 9)]}
    asks(gaps, found, 0)
    (ask,) = asks(gaps, found, 3)
    gaps.answered(ask, [(5, 7)], 3)
    assert (gaps.lost, gaps.missing) == (3, 2)
    assert states(gaps) == [("AAPL", 8, 9, "open"), ("AAPL", 5, 7, "lost")]
    assert asks(gaps, {A: [(5, 7)]}, 4) == []
    assert (gaps.closed, gaps.missing) == (2, 0)
    assert asks(gaps, {A: [(5, 7)]}, 10_000) == []
    assert asks(gaps, {A: []}, 10_001) == []
    assert states(gaps) == [], "it came after all"


def test_what_is_sent_again_and_never_comes_is_left_alone() -> None:
    gaps, found, at = Gaps(WAIT_S), {A: [(5, 5)]}, 0.0
    sent = 0
    for _ in range(5 * ANSWERS_MAX):
        for ask in asks(gaps, found, at):
            gaps.answered(ask, [], at)
            sent += 1
        at += PAUSE_S_MAX
    assert (sent, gaps.missing, gaps.lost) == (ANSWERS_MAX, 0, 0)
    assert states(gaps) == [("AAPL", 5, 5, "stuck")]


def test_so_many_requests_at_one_look_the_longest_overdue_first() -> None:
    gaps = Gaps(WAIT_S)
    asks(gaps, {B: [(1, 1)]}, 0)
    found: dict[DayKey, Runs] = {A: [(1, 5 * BLOCK)], B: [(1, 1)]}
    asks(gaps, found, 1)
    first = asks(gaps, found, 10, 3)
    assert [ask.symbol for ask in first] == ["IBM", "AAPL", "AAPL"]
    for ask in first:
        gaps.answered(ask, [], 10)
    assert {ask.first for ask in asks(gaps, found, 11, MANY)} == {2 * BLOCK, 3 * BLOCK, 4 * BLOCK, 5 * BLOCK}


def test_one_absurd_number_does_not_make_a_million_requests() -> None:
    gaps, absurd = Gaps(WAIT_S), 10**15
    found: dict[DayKey, Runs] = {A: [(4, absurd)]}
    asks(gaps, found, 0)
    assert gaps.missing <= BLOCKS_MAX * BLOCK
    assert gaps.missing + gaps.lost == absurd - 3
    asked = asks(gaps, found, 10, 10**6)
    assert len(asked) == BLOCKS_MAX
    asks(gaps, found, 11)
    assert gaps.missing + gaps.lost == absurd - 3, "lost once, not at every look"


def test_a_day_that_is_no_longer_held_is_forgotten() -> None:
    gaps = Gaps(WAIT_S)
    asks(gaps, {A: [(5, 5)]}, 0)
    (ask,) = asks(gaps, {A: [(5, 5)]}, 3)
    gaps.answered(ask, [], 3)
    assert asks(gaps, {}, 4) == []
    assert (gaps.missing, gaps.closed) == (0, 0), "another worker's, which is not closed"


def test_what_is_shown_is_bounded() -> None:
    gaps = Gaps(WAIT_S)
    asks(gaps, {A: [(q, q) for q in range(1, 10 * SHOWN_MAX, 2)]}, 0)
    assert len(gaps.shown(0)) == SHOWN_MAX


# -- closing -----------------------------------------------------------------------------------------------------------


@dataclass
class Ticks:
    """What one symbol has of its ticks, and a gateway that sends again what the venue has."""

    seen: Seen = field(default_factory=Seen)
    venue: set[int] = field(default_factory=set)
    asked: list[Ask] = field(default_factory=list)
    fault: Exception | None = None

    def holes(self) -> dict[DayKey, Runs]:
        return {A: holes_in(self.seen)}

    async def resend(self, ask: Ask) -> Runs:
        self.asked.append(ask)
        if self.fault is not None:
            raise self.fault
        missing: Runs = []
        for q in range(ask.first, ask.last + 1):
            if q in self.venue:
                self.seen.add(q)
            else:
                missing.append((q, q))
        return missing


def closing(ticks: Ticks) -> tuple[GapCloser, ManualClock]:
    clock = ManualClock()
    return GapCloser(ticks, ticks, clock, WAIT_S, 10), clock


async def test_gaps_are_closed_and_counted() -> None:
    ticks = Ticks(venue=set(range(1, 9)))
    for q in (1, 2, 5, 9, 12):
        ticks.seen.add(q)
    closer, clock = closing(ticks)
    stop = asyncio.Event()
    for _ in range(5):
        await closer.look(stop)
        clock.advance(WAIT_S)
    assert ticks.asked == [Ask("AAPL", SESSION, 3, 11)]
    assert holes_in(ticks.seen) == [(10, 11)]
    assert [(line["from"], line["to"], line["state"]) for line in closer.shown()] == [(10, 11, "lost")]
    assert GAP_MISSING_TICKS._value.get() == 0


@pytest.mark.parametrize(("fault", "state"), [(GatewayAway("503"), "open"), (Refused("422"), "stuck")])
async def test_a_gateway_that_is_away_is_tried_again_and_one_that_refuses_is_not(fault: Exception, state: str) -> None:
    ticks = Ticks(fault=fault)
    ticks.seen.add(2)
    closer, clock = closing(ticks)
    for _ in range(4):
        await closer.look(asyncio.Event())
        clock.advance(60)
    assert [line["state"] for line in closer.shown()] == [state]
    assert len(ticks.asked) == (3 if state == "open" else 1)


async def test_one_silence_is_enough_for_a_look() -> None:
    ticks = Ticks(fault=GatewayAway("timeout"))
    ticks.seen.add(5 * BLOCK)
    closer, clock = closing(ticks)
    await closer.look(asyncio.Event())
    clock.advance(WAIT_S)
    await closer.look(asyncio.Event())
    assert len(ticks.asked) == 1


async def test_it_stops_between_requests() -> None:
    ticks, stop = Ticks(), asyncio.Event()
    ticks.seen.add(5 * BLOCK)
    closer, clock = closing(ticks)
    await closer.look(stop)
    clock.advance(WAIT_S)
    stop.set()
    await closer.look(stop)
    await closer.run(stop)
    assert ticks.asked == []


async def test_what_is_missing_can_be_read() -> None:
    ticks = Ticks()
    ticks.seen.add(3)
    closer, clock = closing(ticks)
    await closer.look(asyncio.Event())
    clock.advance(1.5)
    app = FastAPI()
    app.include_router(routes(closer.shown))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        answer = await client.get("/gaps")
    hole = {"symbol": "AAPL", "session": SESSION, "from": 1, "to": 2, "state": "open", "ageSeconds": 1.5, "requests": 0}
    assert (answer.status_code, answer.json()) == (200, [hole])


# -- the gateway -------------------------------------------------------------------------------------------------------


def gateway(answer: Callable[[httpx.Request], httpx.Response]) -> HttpResender:
    return HttpResender("http://gateway", httpx.MockTransport(answer))


async def test_a_request_and_its_answer() -> None:
    asked: list[dict[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/feed/resend")
        asked.append(json.loads(request.content))
        return httpx.Response(200, json={"published": 3, "missing": [[8, 9], [5, 5]]})

    resender = gateway(answer)
    assert await resender.resend(Ask("AAPL", SESSION, 5, 9)) == [(5, 5), (8, 9)]
    assert asked == [{"symbol": "AAPL", "session": SESSION, "from": 5, "to": 9}]
    await resender.close()


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (503, b'{"error":{"code":"venue_unavailable"}}', GatewayAway),
        (500, b"", GatewayAway),
        (404, b"", GatewayAway),
        (200, b"<html>", GatewayAway),
        (200, b"{}", GatewayAway),
        (422, b'{"error":{"code":"malformed"}}', Refused),
    ],
)
async def test_what_is_no_answer(status: int, body: bytes, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        await gateway(lambda _: httpx.Response(status, content=body)).resend(Ask("AAPL", SESSION, 5, 9))


async def test_a_gateway_that_cannot_be_reached_is_away() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(GatewayAway):
        await gateway(answer).resend(Ask("AAPL", SESSION, 5, 9))
