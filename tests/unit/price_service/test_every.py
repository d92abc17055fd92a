"""Every tick: what a client has got, what it lost, and what it is told of that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import SystemClock
from infra.contracts import Tick
from infra.refusal import Refusal
from price_service.domain.seen import Seen
from price_service.live.every import RUNS_MAX, Client, Fan, Made, Progress, made
from price_service.live.patience import Patience
from price_service.live.places import Hole, Place, covered, holes, places_of
from price_service.live.resume import Resume
from price_service.live.ticks_since import MemoryTicksSince, Stored
from price_service.store.memory import MemoryPrices
from price_service.store.records import Received, StoreAway
from tests.unit.price_service.made import RECEIVED_MS, SESSION, trade

NUMBERS = st.sets(st.integers(1, 40))


def said(chunks: Iterable[bytes]) -> list[tuple[str, Any, str]]:
    """(event, its number or reset's bounds, id) of everything that was written."""
    found = []
    for event in b"".join(chunks).decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in event.split("\n"))
        data = json.loads(fields["data"])
        what = data["sequence"] if fields["event"] == "tick" else (data["from"], data["to"])
        found.append((fields["event"], what, fields["id"]))
    return found


def tick(q: int, session: int = SESSION, symbol: str = "AAPL") -> Made:
    return made(trade(q, session=session, symbol=symbol), RECEIVED_MS)


def progress(q: int = 0) -> Progress:
    return Progress({"AAPL": Place(SESSION, q)})


def at(q: int, session: int = SESSION) -> str:
    return f"AAPL:{session}:{q}"


@given(NUMBERS, st.integers(0, 45))
def test_holes_are_what_is_not_there(taken: set[int], last: int) -> None:
    seen = Seen()
    for q in sorted(taken, key=lambda q: q * 7 % 41):
        seen.add(q)
    found = [q for hole in holes(seen, last) for q in range(hole.first, hole.last + 1)]
    assert found == sorted(set(range(1, last + 1)) - taken)


@given(NUMBERS, st.integers(1, 40), st.integers(0, 10))
def test_a_covered_hole_is_as_if_its_numbers_had_come(taken: set[int], first: int, more: int) -> None:
    seen, whole = Seen(), Seen()
    for q in taken:
        seen.add(q)
    for q in taken | set(range(first, first + more + 1)):
        whole.add(q)
    assert covered(seen, Hole(first, first + more)) == whole


def test_an_id_is_read_as_it_was_written() -> None:
    places = {"AAPL": Place(SESSION, 7), "BRK.B": Place(0, 0)}
    assert places_of(Progress(places).id, ["BRK.B", "AAPL", "IBM"]) == places
    assert places_of(f"{at(7)},IBM:1:1", ["AAPL"]) == {"AAPL": Place(SESSION, 7)}


@pytest.mark.parametrize(
    "text", ["", ",", "AAPL", "AAPL:1", "AAPL:1:", ":1:1", "AAPL:1:-1", "AAPL:1:1:1", "AAPL:١:1", f"{at(1)},{at(2)}"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="last_event_id_invalid"):
        places_of(text, ["AAPL"])


class TestProgress:
    def test_the_id_waits_for_what_is_late_and_nothing_is_sent_twice(self) -> None:
        client = progress(3)
        found = [event for q in (4, 6, 3, 6, 5, 7) for event in client.tick(tick(q))]
        assert said(found) == [("tick", 4, at(4)), ("tick", 6, at(4)), ("tick", 5, at(6)), ("tick", 7, at(7))]

    def test_the_end_of_a_session_names_what_it_leaves_open(self) -> None:
        client = progress()
        found = [event for t in (tick(1), tick(3), tick(2, SESSION + 1), tick(4)) for event in client.tick(t)]
        assert said(found) == [
            ("tick", 1, at(1)),
            ("tick", 3, at(1)),
            ("reset", (2, 2), at(3)),
            ("tick", 2, at(0, SESSION + 1)),
        ]

    def test_holes_without_end_are_given_up_one_by_one(self) -> None:
        client = progress()
        found = said(event for q in range(2, 2 * RUNS_MAX + 4, 2) for event in client.tick(tick(q)))
        assert [event for event in found if event[0] == "reset"] == [("reset", (1, 1), at(2))]
        assert len(client.seen("AAPL").above) == RUNS_MAX

    def test_a_symbol_that_is_not_followed_any_more_says_nothing(self) -> None:
        client = Progress({"AAPL": Place(SESSION, 1), "IBM": Place(SESSION, 1)})
        client.follow({"IBM": Place(SESSION, 99), "MSFT": Place(SESSION, 5)})
        assert client.id == f"IBM:{SESSION}:1,MSFT:{SESSION}:5"
        gone = [*client.tick(tick(2)), *client.begin("AAPL", SESSION + 1), *client.missing("AAPL", 9)]
        assert gone == []


class TestQueue:
    def test_what_does_not_fit_is_named_and_then_it_goes_on(self) -> None:
        client = Client(progress(), ticks_max=3, bytes_max=10_000)
        taken = [client.offer(tick(q)) for q in range(1, 7)]
        assert taken == [True] * 3 + [False] * 3
        assert [(e, w) for e, w, _ in said(client.waiting())] == [
            ("tick", 1),
            ("tick", 2),
            ("tick", 3),
            ("reset", (4, 6)),
        ]
        assert client.offer(tick(7))
        assert said(client.waiting()) == [("tick", 7, at(7))]

    def test_bytes_have_an_end_too_and_are_free_again_when_taken(self) -> None:
        size = len(tick(100).event)
        client = Client(progress(100), ticks_max=1000, bytes_max=3 * size)
        for _ in range(3):
            start = client.progress.place("AAPL").q
            assert [client.offer(tick(start + n)) for n in range(1, 6)] == [True] * 3 + [False] * 2
            assert [w for _, w, _ in said(client.waiting())] == [
                start + 1,
                start + 2,
                start + 3,
                (start + 4, start + 5),
            ]

    def test_a_late_tick_lost_between_others_is_named_alone(self) -> None:
        client = Client(progress(), ticks_max=2, bytes_max=10_000)
        for q in (1, 3, 2):
            client.offer(tick(q))
        assert said(client.waiting()) == [("tick", 1, at(1)), ("tick", 3, at(1)), ("reset", (2, 2), at(3))]

    def test_losing_across_a_session_says_so_for_both(self) -> None:
        client = Client(progress(), ticks_max=1, bytes_max=10_000)
        for each in (tick(1), tick(2), tick(1, SESSION + 1), tick(2, SESSION + 1)):
            client.offer(each)
        assert said(client.waiting()) == [
            ("tick", 1, at(1)),
            ("reset", (2, 2), at(2)),
            ("reset", (1, 2), at(2, SESSION + 1)),
        ]

    def test_one_encoding_for_all_and_no_tap_for_nobody(self) -> None:
        taps: dict[str, set[Any]] = {}
        lost: list[int] = []
        fan = Fan(taps, lambda: lost.append(1))
        first, second = (Client(progress(), 1, 10_000) for _ in range(2))
        fan.follow(first, ["AAPL"])
        fan.follow(second, ["AAPL", "IBM"])
        assert taps == {"AAPL": {fan}, "IBM": {fan}}
        for q in (1, 2):
            fan.tick(trade(q), 0, RECEIVED_MS, b"")
        assert first._queue[0] is second._queue[0]
        assert len(lost) == 2
        fan.leave(first, ["AAPL"])
        fan.leave(second, ["AAPL", "IBM"])
        assert taps == {}


class TestPatience:
    def test_a_hole_that_stays_is_asked_for_and_at_last_given_up(self) -> None:
        client, patience = progress(1), Patience((3, 10))
        client.follow({"AAPL": Place(SESSION, 1), "IBM": Place(SESSION, 1)})
        asked = []
        for now_s in range(40):
            if now_s == 5:
                list(client.tick(tick(3)))
            asked += [(now_s, *due) for due in patience.due(client, now_s)]
            assert bool(patience) == (now_s >= 5)
            if asked and asked[-1][2]:
                break
        assert asked == [(8, "AAPL", False), (15, "AAPL", True)]

    def test_another_hole_has_its_own_time(self) -> None:
        client, patience = progress(1), Patience((3,))
        list(client.tick(tick(3)))
        assert patience.due(client, 0) == []
        for q in (2, 5):
            list(client.tick(tick(q)))
        assert patience.due(client, 3) == []
        assert patience.due(client, 6) == [("AAPL", True)]
        list(client.tick(tick(4)))
        assert patience.due(client, 20) == []
        assert not patience


class Lagging(MemoryTicksSince):
    """A store that has each batch a read later."""

    def __init__(self, batches: list[list[Tick]]) -> None:
        super().__init__(MemoryPrices())
        self._batches = batches

    async def sessions(self, symbol: str, since: int, sessions_max: int) -> list[Stored]:
        if self._batches:
            self._store.ticks.extend(Received(each, RECEIVED_MS) for each in self._batches.pop(0))
        return await super().sessions(symbol, since, sessions_max)


class Away(MemoryTicksSince):
    async def sessions(self, symbol: str, since: int, sessions_max: int) -> list[Stored]:
        raise StoreAway("away")


class Breaking(Lagging):
    async def pages(self, symbol: str, session: int, after_q: int) -> AsyncIterator[list[Received]]:
        async for page in super().pages(symbol, session, after_q):
            yield page[:2]
            raise StoreAway("in the middle")


async def resumed(
    store: MemoryTicksSince, client: Progress, applied: Seen, session: int = SESSION, ticks_max: int = 100
) -> list[tuple[str, Any, str]]:
    resume = Resume(store, SystemClock(), ticks_max, wait_s=0.25)
    return said([chunk async for chunk in resume.after(client, "AAPL", session, applied)])


class TestResume:
    async def test_a_store_that_is_behind_the_hub_is_waited_for(self) -> None:
        store = Lagging([[trade(q) for q in (1, 2, 3)], [trade(4)]])
        assert await resumed(store, progress(1), Seen(4)) == [("tick", q, at(q)) for q in (2, 3, 4)]

    async def test_what_the_store_does_not_get_in_time_is_named(self) -> None:
        store = Lagging([[trade(2), trade(5)]])
        found = await resumed(store, progress(1), Seen(3, [(5, 7)]))
        # 4 has not come to the hub either: it may still come, and is not given up.
        assert found == [
            ("tick", 2, at(2)),
            ("tick", 5, at(2)),
            ("reset", (3, 3), at(3)),
            ("reset", (6, 7), at(3)),
        ]

    async def test_without_the_store_everything_is_named(self) -> None:
        away = Away(MemoryPrices())
        assert await resumed(away, progress(1), Seen(3)) == [("reset", (2, 3), at(3))]
        later = SESSION + 1
        assert await resumed(away, progress(1), Seen(3), later) == [("reset", (1, 3), at(3, later))]

    async def test_a_store_that_breaks_in_the_middle_is_asked_for_the_rest(self) -> None:
        store = Breaking([[trade(q) for q in (1, 2, 3)]])
        found = await resumed(store, progress(), Seen(3))
        assert found == [("tick", q, at(q)) for q in (1, 2, 3)]

    async def test_old_sessions_end_with_what_is_known_of_them(self) -> None:
        later = SESSION + 1
        store = Lagging([[trade(2), trade(5), trade(1, session=later)]])
        assert await resumed(store, progress(1), Seen(1), later) == [
            ("tick", 2, at(2)),
            ("tick", 5, at(2)),
            ("reset", (3, 4), at(5)),
            ("tick", 1, at(1, later)),
        ]

    async def test_a_session_that_nobody_knows_any_more(self) -> None:
        store = Lagging([[trade(1)]])
        client = Progress({"AAPL": Place(SESSION - 9, 4)})
        assert await resumed(store, client, Seen(1)) == [("reset", (5, None), at(4, SESSION - 9)), ("tick", 1, at(1))]

    async def test_a_client_that_is_ahead_of_this_hub_gets_nothing_twice(self) -> None:
        client = progress(9)
        assert await resumed(Lagging([[trade(q) for q in range(1, 6)]]), client, Seen(5)) == []
        assert said(event for q in (8, 9, 10) for event in client.tick(tick(q))) == [("tick", 10, at(10))]

    async def test_more_than_the_limit_is_named_and_the_newest_come(self) -> None:
        store = Lagging([[trade(q) for q in range(1, 8)]])
        found = await resumed(store, progress(1), Seen(7), ticks_max=2)
        assert found == [("reset", (2, 5), at(5)), ("tick", 6, at(6)), ("tick", 7, at(7))]

    async def test_a_symbol_that_is_dropped_meanwhile_ends_it(self) -> None:
        client = progress()
        resume = Resume(Lagging([[trade(q) for q in range(1, 2_500)]]), SystemClock(), 10_000, wait_s=0.25)
        events = resume.after(client, "AAPL", SESSION, Seen(5_000))
        await anext(events)
        client.follow({})
        async with asyncio.timeout(5):
            assert b"".join([chunk async for chunk in events]) == b""
