"""What is sent, what is asked, and what may be said in the end."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from exchange_gateway.orders.deliver import Delivery, Errand, Limits
from exchange_gateway.orders.outcome import HELD_BACK, Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.venue import VenueAway, VenueOrder
from infra.clock import NS_PER_S, ManualClock
from infra.contracts import NOT_AFTER_PASSED, Command, Reason, Switch, cl_ord_id
from tests.unit.exchange_gateway.words import cancel, command, order_id, venue_report

FIRST, SECOND = (cl_ord_id(order_id(), n) for n in (1, 2))
NEW = Answer("accepted", (venue_report(exec_type="NEW"),))
CANCELED = Answer("accepted", (venue_report(exec_type="CANCELED", cl_ord_id=SECOND),))
NOT_SENT = Answer("not_sent", reason=Reason("venue_unreachable"))
UNKNOWN = Answer("unknown", reason=Reason("no_answer"))
NOT_FOUND = Answer("not_found", reason=Reason("unknown_order"))
REFUSED = Answer("refused", reason=Reason("malformed"))
DUPLICATE = Answer("duplicate", reason=Reason("duplicate_cl_ord_id"))


def order(status: str) -> VenueOrder:
    return VenueOrder(
        cl_ord_id=FIRST,
        exchange_order_id="X1",
        symbol="AAPL",
        side="BUY",
        ord_type="LIMIT",
        tif="DAY",
        quantity=10,
        order_status=status,
        cum_qty=0,
        leaves_qty=10,
        venue_seq=1,
        session=1,
    )


class Script:
    """A venue that answers from two lists, the last answer for ever, and remembers what it was asked."""

    def __init__(self, sends: list[Answer], queries: list[Answer]) -> None:
        self._sends, self._queries = sends, queries
        self.asked: list[str] = []

    async def submit(self, order: NewOrder) -> Answer:
        return self._next(self._sends, f"submit {order.cl_ord_id[-1]}")

    async def cancel(self, request: CancelRequest) -> Answer:
        return self._next(self._sends, f"cancel {request.orig_cl_ord_id[-1]}")

    async def replace(self, request: ReplaceRequest) -> Answer:
        return self._next(self._sends, f"replace {request.orig_cl_ord_id[-1]}")

    async def query(self, cl_ord_id: str) -> Answer:
        return self._next(self._queries, f"query {cl_ord_id[-1]}")

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        return [await self.submit(order) for order in orders]

    def _next(self, answers: list[Answer], asked: str) -> Answer:
        self.asked.append(asked)
        return answers.pop(0) if len(answers) > 1 else answers[0]


def delivery(
    venue: Script, clock: ManualClock | None = None, switch: Switch | None = None, session: int = 0
) -> Delivery:
    time = clock or ManualClock()

    async def pause(seconds: float) -> None:
        time.advance(seconds + 0.01)

    return Delivery(venue, lambda *_: switch, lambda: session, time, Random(1), Limits(retry_s=2, ask_s=2), pause)


def off(mode: str) -> Switch:
    return Switch(scope="global", mode=mode, reason="a drill", by="operator", at_ns=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "sends", "queries", "outcome", "source", "code"),
    [
        (command(), [NEW], [], "accepted", "answer", None),
        (command(), [NOT_SENT, NOT_SENT, NEW], [], "accepted", "answer", None),
        (command(), [REFUSED], [], "refused", "answer", "malformed"),
        (command(), [UNKNOWN], [NEW], "accepted", "query", None),
        (command(), [NOT_SENT, UNKNOWN], [UNKNOWN, NOT_SENT, NOT_FOUND, NEW], "accepted", "query", None),
        (command(), [UNKNOWN], [NOT_FOUND], "unknown", "query", "unknown_order"),
        (command(), [UNKNOWN], [UNKNOWN], "unknown", "query", "no_answer"),
        (command(), [UNKNOWN], [NOT_SENT], "unknown", "query", "no_answer"),
        (command(), [DUPLICATE], [NEW], "accepted", "query", None),
        (command(), [DUPLICATE], [NOT_FOUND], "unknown", "query", "unknown_order"),
        (command(), [NOT_FOUND], [NOT_FOUND], "unknown", "query", "unknown_order"),
        (command(kind="submit_again"), [NEW], [NOT_FOUND], "accepted", "answer", None),
        (command(kind="submit_again"), [], [NEW], "accepted", "query", None),
        (cancel(), [CANCELED], [], "accepted", "answer", None),
        (cancel(), [NOT_FOUND], [], "refused", "answer", "unknown_order"),
        (cancel(), [UNKNOWN], [CANCELED], "accepted", "query", None),
        (cancel(), [UNKNOWN], [NEW, NEW, CANCELED], "accepted", "query", None),
        (cancel(), [UNKNOWN], [NEW], "unknown", "query", "no_answer"),
        (cancel(), [UNKNOWN], [Answer("accepted", NEW.reports, order=order("NEW"))], "unknown", "query", "no_answer"),
        (cancel(), [UNKNOWN], [Answer("accepted", NEW.reports, order=order("FILLED"))], "accepted", "query", None),
        (command(kind="query"), [], [NEW], "accepted", "query", None),
        (command(kind="query"), [], [NOT_FOUND], "not_found", "query", "unknown_order"),
        (command(kind="query"), [], [UNKNOWN], "unknown", "query", "no_answer"),
        (command(kind="query"), [], [NOT_SENT, UNKNOWN, NEW], "accepted", "query", None),
    ],
)
async def test_verdict(
    given: Command, sends: list[Answer], queries: list[Answer], outcome: str, source: str, code: str | None
) -> None:
    verdict = await delivery(Script(list(sends), list(queries))).deliver(Errand(given))
    assert (verdict.answer.outcome, verdict.source) == (outcome, source)
    assert (verdict.answer.reason.code if verdict.answer.reason else None) == code


@pytest.mark.parametrize(("tif", "session_s", "sent"), [("DAY", 11, False), ("DAY", 10, True), ("GTC", 11, True)])
@pytest.mark.parametrize("kind", ["submit", "submit_again"])
async def test_a_day_order_is_not_sent_into_the_next_session(kind: str, tif: str, session_s: int, sent: bool) -> None:
    given = command(kind=kind, tif=tif, requested_ns=10 * NS_PER_S)
    verdict = await delivery(Script([NEW], [NOT_FOUND]), session=session_s).deliver(Errand(given))
    assert verdict.answer.outcome == ("accepted" if sent else "not_sent")
    assert sent or (verdict.answer.reason and verdict.answer.reason.code == NOT_AFTER_PASSED)


@pytest.mark.parametrize("given", [command(), cancel(), command(kind="query"), command(kind="submit_again")])
async def test_an_unreachable_venue_is_waited_for_and_nothing_is_said(given: Command) -> None:
    venue = Script([NOT_SENT], [NOT_SENT])
    with pytest.raises(VenueAway, match="venue_unreachable"):
        await delivery(venue).deliver(Errand(given))
    assert 2 < len(venue.asked) < 1000, "a few tries in place, bounded"


async def test_what_may_have_arrived_is_never_sent_again() -> None:
    venue = Script([UNKNOWN, NEW], [NOT_FOUND])
    verdict = await delivery(venue).deliver(Errand(command()))
    assert venue.asked.count("submit 1") == 1
    assert (verdict.answer.outcome, verdict.attempts) == ("unknown", 1)


async def test_a_cancel_is_asked_about_by_the_order_that_it_names() -> None:
    venue = Script([UNKNOWN], [CANCELED])
    await delivery(venue).deliver(Errand(cancel()))
    assert venue.asked == ["cancel 1", "query 1"]


async def test_attempts_are_counted_over_all_that_was_done_for_an_errand() -> None:
    errand = Errand(command())
    with pytest.raises(VenueAway):
        await delivery(Script([NOT_SENT, NOT_SENT, HELD_BACK], [])).deliver(errand)
    verdict = await delivery(Script([NOT_SENT, NEW], [])).deliver(errand)
    assert verdict.attempts == 4, "what the breaker held back was no attempt"


async def test_quick_retries_are_a_small_part_of_what_is_sent() -> None:
    venue = Script([NOT_SENT], [])
    clock = ManualClock()
    way = delivery(venue, clock)
    for number in range(1, 101):
        with pytest.raises(VenueAway):
            await way.deliver(Errand(command(number)))
    tries = len(venue.asked)
    assert tries - 100 < 100, "the budget: what it begins with, a tenth, and two a second"


# -- what may not be sent ----------------------------------------------------------------------------------------------

LATE: dict[str, Any] = {"not_after_ns": 1}


@pytest.mark.parametrize(
    ("given", "switch", "code"),
    [
        (command(**LATE), None, "not_after_passed"),
        (command(kind="submit_again", **LATE), None, "not_after_passed"),
        (cancel(), off("cancel_only"), None),
        (command(kind="query"), off("cancel_only"), None),
        (command(), off("cancel_only"), "switched_off"),
        (command(order_type="sell"), off("cancel_only"), "switched_off"),
        (command(kind="submit_again"), off("cancel_only"), "switched_off"),
        (command(kind="replace", orig_cl_ord_id=FIRST), off("cancel_only"), "switched_off"),
        (command(kind="replace", orig_cl_ord_id=FIRST, **LATE), None, None),
        (command(), off("reduce_only"), "switched_off"),
        (command(order_type="sell"), off("reduce_only"), None),
        (command(), off("normal"), None),
    ],
)
async def test_what_is_too_late_or_switched_off_is_not_sent(
    given: Command, switch: Switch | None, code: str | None
) -> None:
    venue = Script([NEW], [NOT_FOUND if given.kind == "submit_again" else NEW])
    verdict = await delivery(venue, switch=switch).deliver(Errand(given))
    said = verdict.answer.reason and verdict.answer.reason.code
    assert (verdict.answer.outcome, said) == ("not_sent" if code else "accepted", code)
    sends = [asked for asked in venue.asked if not asked.startswith("query")]
    assert len(sends) == (0 if code or given.kind == "query" else 1)


async def test_it_becomes_too_late_between_two_tries() -> None:
    clock = ManualClock()
    venue = Script([NOT_SENT], [])
    verdict = await delivery(venue, clock).deliver(Errand(command(not_after_ns=clock.now_ns() + 1_000_000)))
    assert venue.asked == ["submit 1"]
    assert (verdict.answer.outcome, verdict.attempts) == ("not_sent", 1)


# -- what may have been sent before a restart --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "queries", "outcome", "asked"),
    [
        (command(), [NEW], "accepted", ["query 1"]),
        (command(), [NOT_FOUND], "accepted", ["query 1", "submit 1"]),
        (command(), [UNKNOWN, NEW], "accepted", ["query 1", "query 1"]),
        (command(**LATE), [NEW], "accepted", ["query 1"]),
        (command(**LATE), [NOT_FOUND], "not_sent", ["query 1"]),
        (cancel(), [CANCELED], "accepted", ["query 1"]),
        (cancel(), [NOT_FOUND], "accepted", ["query 1", "cancel 1"]),
    ],
)
async def test_the_venue_is_asked_first(given: Command, queries: list[Answer], outcome: str, asked: list[str]) -> None:
    venue = Script([NEW], list(queries))
    verdict = await delivery(venue).deliver(Errand(given, maybe_sent=True))
    assert (verdict.answer.outcome, venue.asked) == (outcome, asked)


async def test_a_cancel_that_the_venue_did_not_report_goes_again_under_its_own_id() -> None:
    venue = Script([CANCELED], [NEW])
    verdict = await delivery(venue).deliver(Errand(cancel(), maybe_sent=True))
    assert verdict.answer == CANCELED
    assert venue.asked.count("cancel 1") == 1


async def test_without_an_answer_nothing_is_sent() -> None:
    venue = Script([NEW], [UNKNOWN])
    assert (await delivery(venue).deliver(Errand(command(), maybe_sent=True))).answer.outcome == "unknown"
    assert set(venue.asked) == {"query 1"}
    with pytest.raises(VenueAway):
        await delivery(Script([NEW], [NOT_SENT])).deliver(Errand(command(), maybe_sent=True))


async def test_it_is_asked_once_though_the_send_takes_several_rounds() -> None:
    errand = Errand(command(), maybe_sent=True)
    venue = Script([NOT_SENT, HELD_BACK, NEW], [NOT_FOUND])
    way = delivery(venue)
    with pytest.raises(VenueAway):
        await way.deliver(errand)
    await way.deliver(errand)
    assert venue.asked == ["query 1", "submit 1", "submit 1", "submit 1"]
