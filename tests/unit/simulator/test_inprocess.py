"""The exchange in the same process: what its client concludes from each misbehaviour, and what the venue then knows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec
import pytest

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.simulator.chaos import Rule
from exchange_gateway.simulator.inprocess import InProcessVenue
from exchange_gateway.simulator.inprocess_mail import Hook
from exchange_gateway.stream import OPEN, NeverReached, SourceLost
from exchange_gateway.venue import VenueAway
from infra.contracts import Instrument
from tests.simulation.virtual import VirtualClock, run

LISTED = [Instrument("AAA", "A Inc.", 10_000, 1, 1), Instrument("BBB", "B Inc.", 10_000, 1, 1)]
BID, ASK = 9_990_000, 10_010_000


def order(cl_ord_id: str, quantity: int = 10, **changes: Any) -> NewOrder:
    """A buy that is filled at once."""
    plain: dict[str, Any] = {
        "cl_ord_id": cl_ord_id,
        "symbol": "AAA",
        "side": "BUY",
        "ord_type": "LIMIT",
        "tif": "GTC",
        "quantity": quantity,
        "limit_micros": ASK,
    }
    return NewOrder(**plain | changes)


def played(
    story: Callable[[InProcessVenue], Awaitable[None]],
    *rules: Rule,
    webhook: Hook | None = None,
    seed: int = 1,
    latency_s_max: float = 0.0,
) -> InProcessVenue:
    """Tell a story in virtual time."""
    made: list[InProcessVenue] = []

    async def main(clock: VirtualClock) -> None:
        venue = InProcessVenue(LISTED, clock, asyncio.sleep, Random(seed), webhook=webhook, latency_s_max=latency_s_max)
        made.append(venue)
        venue.quote("AAA", BID, 1_000_000, ASK, 1_000_000)
        venue.chaos.add(rules)
        await story(venue)
        await venue.close()

    run(lambda loop: main(VirtualClock(loop)))
    return made[0]


def words(answer: Answer) -> str:
    """`accepted NEW TRADE`, `unknown no_answer`."""
    said = [report.exec_type or report.kind for report in answer.reports]
    return " ".join([answer.outcome, *said, *([answer.reason.code] if answer.reason else [])])


def recorded(venue: InProcessVenue) -> list[str]:
    return [f"{r.exec_type} {r.cl_ord_id}" for entry in venue.read_all() for r in entry.reports]


@pytest.mark.parametrize(
    ("rule", "concluded", "found"),
    [
        (Rule(kind="lost_response"), "unknown no_answer", "accepted NEW TRADE"),
        (Rule(kind="truncated_body"), "unknown no_answer", "accepted NEW TRADE"),
        (Rule(kind="reset_mid_body"), "unknown no_answer", "accepted NEW TRADE"),
        (Rule(kind="garbage_body"), "unknown unreadable_answer", "accepted NEW TRADE"),
        (Rule(kind="slow_drip", delay_s=1), "unknown no_answer", "accepted NEW TRADE"),
        (Rule(kind="slow_drip", delay_s=0.0001), "accepted NEW TRADE", "accepted NEW TRADE"),
        (Rule(kind="server_error_after", status=502), "unknown http_502", "accepted NEW TRADE"),
        (Rule(kind="server_error_before", status=500), "unknown http_500", "not_found unknown_order"),
        (Rule(kind="too_many_requests", retry_after_s=7), "not_sent http_429", "not_found unknown_order"),
        (Rule(kind="delayed_acceptance"), "unknown no_answer", "not_found unknown_order"),
    ],
)
def test_what_a_client_concludes_and_what_the_venue_knows(rule: Rule, concluded: str, found: str) -> None:
    async def story(venue: InProcessVenue) -> None:
        answer = await venue.submit(order("a"))
        assert words(answer) == concluded
        assert answer.retry_after_s == (7 if rule.kind == "too_many_requests" else None)
        assert words(await venue.query("a")) == found

    played(story, rule)


def test_delayed_acceptance_comes_for_real_some_time_later() -> None:
    async def story(venue: InProcessVenue) -> None:
        assert (await venue.submit(order("a"))).outcome == "unknown"
        await asyncio.sleep(2.9)
        assert (await venue.query("a")).outcome == "not_found"
        await asyncio.sleep(0.2)
        assert words(await venue.query("a")) == "accepted NEW TRADE"

    played(story, Rule(kind="delayed_acceptance", delay_s=3))


@pytest.mark.parametrize("again_s", [1, 5])
def test_delayed_acceptance_and_the_same_id_again_is_one_order(again_s: float) -> None:
    async def story(venue: InProcessVenue) -> None:
        await venue.submit(order("a"))
        await asyncio.sleep(again_s)
        assert (await venue.submit(order("a"))).outcome == ("accepted" if again_s < 3 else "duplicate")
        await asyncio.sleep(10)

    assert recorded(played(story, Rule(kind="delayed_acceptance", delay_s=3, count=1))) == ["NEW a", "TRADE a"]


def test_a_cancel_and_a_replace_can_be_struck_too() -> None:
    async def story(venue: InProcessVenue) -> None:
        await venue.submit(order("a", limit_micros=BID))
        changed = ReplaceRequest(orig_cl_ord_id="a", cl_ord_id="b", quantity=5, limit_micros=BID)
        assert words(await venue.replace(changed)) == "unknown no_answer"
        canceled = CancelRequest(orig_cl_ord_id="b", cl_ord_id="c")
        assert words(await venue.cancel(canceled)) == "unknown no_answer"
        assert words(await venue.query("a")) == "accepted NEW REPLACED CANCELED"

    played(story, Rule(kind="lost_response", on=("cancel", "replace")))


def test_a_batch_is_struck_as_a_whole() -> None:
    async def story(venue: InProcessVenue) -> None:
        answers = await venue.submit_batch([order("a"), order("b", symbol="ZZZ"), order("a")])
        assert [words(answer) for answer in answers] == [
            "accepted NEW TRADE",
            "accepted REJECTED",
            "duplicate duplicate_cl_ord_id",
        ]
        answers = await venue.submit_batch([order("c"), order("d")])
        assert [words(answer) for answer in answers] == ["unknown no_answer"] * 2
        assert words(await venue.query("d")) == "accepted NEW TRADE"

    played(story, Rule(kind="lost_response", from_event=2))


@pytest.mark.parametrize("changes", [{"limit_micros": None}, {"symbol": ""}, {"cl_ord_id": "a b"}, {"side": "buy"}])
def test_what_the_venue_cannot_read_is_refused(changes: dict[str, Any]) -> None:
    async def story(venue: InProcessVenue) -> None:
        bad = msgspec.structs.replace(order("a"), **changes)
        answers = [await venue.submit(bad), *await venue.submit_batch([bad])]
        assert [words(answer) for answer in answers] == ["refused malformed"] * 2

    assert recorded(played(story)) == []


def test_while_it_is_down_nothing_is_sent() -> None:
    async def story(venue: InProcessVenue) -> None:
        venue.crash()
        for answer in (await venue.submit(order("a")), await venue.query("a")):
            assert words(answer) == "not_sent venue_unreachable"
        with pytest.raises(VenueAway):
            await venue.executions(0, 10)
        with pytest.raises(SourceLost):
            await anext(venue.frames(0))

    played(story)


@pytest.mark.parametrize(("seconds", "kept"), [(0.001, 0), (1, 1)])
def test_a_crash_under_a_request_leaves_its_outcome_unknown(seconds: float, kept: int) -> None:
    async def story(venue: InProcessVenue) -> None:
        asked = asyncio.ensure_future(venue.submit(order("a")))
        await asyncio.sleep(seconds)
        venue.crash()
        assert words(await asked) == "unknown no_answer"
        venue.restart(with_memory=True)
        assert venue.desk.venue.total() == kept

    venue = played(story, latency_s_max=1.9, seed=3)
    assert len(recorded(venue)) == 2 * kept


def test_after_a_restart_with_memory_orders_and_numbers_go_on() -> None:
    async def story(venue: InProcessVenue) -> None:
        await venue.submit(order("gtc", limit_micros=BID))
        await venue.submit(order("day", limit_micros=BID, tif="DAY"))
        session = venue.desk.venue.session
        venue.crash()
        venue.restart(with_memory=True)
        assert venue.desk.venue.session > session
        assert words(await venue.query("gtc")) == "accepted NEW"
        assert words(await venue.query("day")) == "accepted NEW EXPIRED"
        assert words(await venue.submit(order("market", ord_type="MARKET", limit_micros=None))) == "accepted NEW TRADE"
        assert (await venue.submit(order("gtc"))).outcome == "duplicate"

    assert recorded(played(story))[:3] == ["NEW gtc", "NEW day", "EXPIRED day"]


def test_after_a_restart_without_memory_nothing_is_known_and_no_session_comes_again() -> None:
    async def story(venue: InProcessVenue) -> None:
        await venue.submit(order("a"))
        session = venue.desk.venue.session
        venue.crash()
        venue.restart(with_memory=False)
        assert venue.desk.venue.session > session
        assert words(await venue.query("a")) == "not_found unknown_order"
        assert (await venue.executions(0, 10)).total == (await venue.orders(0, 10)).total == 0
        assert words(await venue.submit(order("a"))) == "accepted NEW TRADE"
        frames = venue.frames(5)
        assert await anext(frames) == OPEN
        with pytest.raises(NeverReached):
            await anext(frames)

    assert recorded(played(story)) == ["NEW a", "TRADE a"] * 2, "the journal has both lives"


def test_restart_without_memory() -> None:
    async def story(venue: InProcessVenue) -> None:
        await venue.submit(order("a"))
        assert words(await venue.submit(order("b"))) == "unknown no_answer"
        assert words(await venue.query("a")) == "not_sent venue_unreachable"
        await asyncio.sleep(4.1)
        assert words(await venue.query("a")) == "not_found unknown_order"

    played(story, Rule(kind="restart_without_memory", from_event=2, count=1, delay_s=4))


def test_what_was_parked_dies_with_the_venue() -> None:
    async def story(venue: InProcessVenue) -> None:
        await venue.submit(order("a"))
        venue.crash()
        venue.restart(with_memory=True)
        await asyncio.sleep(10)
        assert (await venue.query("a")).outcome == "not_found"

    played(story, Rule(kind="delayed_acceptance", delay_s=3, count=1))


class TestDropCopy:
    def numbers(self, *rules: Rule, connections: int = 1) -> list[list[int]]:
        """The numbers that each connection gave, read to the end of what is there."""
        found: list[list[int]] = []

        async def story(venue: InProcessVenue) -> None:
            for n in range(3):
                await venue.submit(order(f"a-{n}"))
            for _ in range(connections):
                found.append(seen := [])
                try:
                    async with asyncio.timeout(1):
                        async for frame in venue.frames(0):
                            if frame != OPEN:
                                seen.append(msgspec.json.decode(frame)["n"])  # noqa: PERF401 - it ends by an error
                except (SourceLost, TimeoutError):
                    continue

        played(story, *rules)
        return found

    def test_all_of_it(self) -> None:
        assert self.numbers() == [[1, 2, 3, 4, 5, 6]]

    def test_missing_frame(self) -> None:
        assert self.numbers(Rule(kind="missing_frame", from_event=3, count=1), connections=2) == [
            [1, 2, 4, 5, 6],
            [1, 2, 3, 4, 5, 6],
        ]

    def test_drop_copy_disconnect(self) -> None:
        assert self.numbers(Rule(kind="drop_copy_disconnect", from_event=3, count=1), connections=2) == [
            [1, 2],
            [1, 2, 3, 4, 5, 6],
        ]

    def test_disconnect(self) -> None:
        async def story(venue: InProcessVenue) -> None:
            frames = venue.frames(0)
            assert await anext(frames) == OPEN
            waiting = asyncio.ensure_future(anext(frames))
            await asyncio.sleep(1)
            await venue.submit(order("a"))
            with pytest.raises(SourceLost):
                await waiting

        played(story, Rule(kind="disconnect", count=1))


class TestWebhooks:
    def test_they_come_in_order_and_again_until_they_are_taken(self) -> None:
        seen: list[str] = []

        async def hook(body: bytes) -> bool:
            seen.append(msgspec.json.decode(body)["exec_type"])
            return len(seen) > 2

        async def story(venue: InProcessVenue) -> None:
            await venue.submit(order("a"))
            await asyncio.sleep(5)

        played(story, webhook=hook)
        assert seen == ["NEW", "NEW", "NEW", "TRADE"]

    def test_a_crash_loses_them(self) -> None:
        seen: list[bytes] = []

        async def hook(body: bytes) -> bool:
            seen.append(body)
            return False

        async def story(venue: InProcessVenue) -> None:
            await venue.submit(order("a"))
            await asyncio.sleep(0.05)
            venue.crash()
            venue.restart(with_memory=True)
            await asyncio.sleep(100)

        played(story, webhook=hook)
        assert len(seen) == 1

    def test_what_goes_wrong_in_one_is_told_at_the_end(self) -> None:
        async def hook(body: bytes) -> bool:
            raise LookupError(body)

        async def story(venue: InProcessVenue) -> None:
            await venue.submit(order("a"))
            await asyncio.sleep(1)

        with pytest.raises(LookupError):
            played(story, webhook=hook)


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_repeats_its_run(seed: int) -> None:
    kinds = ("lost_response", "delayed_acceptance", "bust", "correct", "overfill", "stray_fill", "halted_symbol")
    rules = [Rule(kind=kind, probability=0.1) for kind in kinds]  # type: ignore[arg-type]

    def once() -> tuple[list[str], list[str]]:
        answers: list[str] = []

        async def story(venue: InProcessVenue) -> None:
            for n in range(60):
                venue.quote("AAA", BID, 1_000_000, ASK, 1_000_000)
                answers.append(words(await venue.submit(order(f"a-{n}"))))
                await asyncio.sleep(0.1)

        return answers, recorded(played(story, *rules, seed=seed, latency_s_max=0.05))

    first = once()
    assert first == once()
    assert {"unknown no_answer", "accepted NEW TRADE"} <= set(first[0])
