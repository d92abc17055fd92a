"""What is sent, what is asked, and what may be said in the end."""

from __future__ import annotations

from random import Random

import pytest

from exchange_gateway.orders.deliver import Delivery, Limits
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.venue import ExecutionsPage, VenueAway, VenueOrder
from infra.clock import ManualClock
from infra.contracts import Command, Reason, cl_ord_id
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

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        raise NotImplementedError

    def _next(self, answers: list[Answer], asked: str) -> Answer:
        self.asked.append(asked)
        return answers.pop(0) if len(answers) > 1 else answers[0]


def delivery(venue: Script, clock: ManualClock | None = None) -> Delivery:
    time = clock or ManualClock()

    async def pause(seconds: float) -> None:
        time.advance(seconds + 0.01)

    return Delivery(venue, time, Random(1), Limits(retry_s=2, ask_s=2), pause)


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
        (command(kind="submit_again", not_after_ns=1), [NEW], [], "accepted", "answer", None),
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
    verdict = await delivery(Script(list(sends), list(queries))).deliver(given)
    assert (verdict.answer.outcome, verdict.source) == (outcome, source)
    assert (verdict.answer.reason.code if verdict.answer.reason else None) == code


@pytest.mark.parametrize("given", [command(), cancel(), command(kind="query"), command(kind="submit_again")])
async def test_an_unreachable_venue_is_waited_for_and_nothing_is_said(given: Command) -> None:
    venue = Script([NOT_SENT], [NOT_SENT])
    with pytest.raises(VenueAway, match="venue_unreachable"):
        await delivery(venue).deliver(given)
    assert 2 < len(venue.asked) < 1000, "a few tries in place, bounded"


async def test_what_may_have_arrived_is_never_sent_again() -> None:
    venue = Script([UNKNOWN, NEW], [NOT_FOUND])
    verdict = await delivery(venue).deliver(command())
    assert venue.asked.count("submit 1") == 1
    assert (verdict.answer.outcome, verdict.attempts) == ("unknown", 1)


async def test_a_cancel_is_asked_about_by_the_order_that_it_names() -> None:
    venue = Script([UNKNOWN], [CANCELED])
    await delivery(venue).deliver(cancel())
    assert venue.asked == ["cancel 1", "query 1"]


async def test_attempts_are_counted() -> None:
    assert (await delivery(Script([NOT_SENT, NOT_SENT, NEW], [])).deliver(command())).attempts == 3


LATE = command(not_after_ns=1)


async def test_too_late_and_never_there_is_not_sent() -> None:
    venue = Script([NEW], [NOT_FOUND])
    verdict = await delivery(venue).deliver(LATE)
    assert (verdict.answer.outcome, verdict.attempts) == ("not_sent", 0)
    assert verdict.answer.reason
    assert verdict.answer.reason.code == "not_after_passed"
    assert venue.asked == ["query 1"]


async def test_too_late_but_sent_before_a_crash_is_what_the_venue_says() -> None:
    verdict = await delivery(Script([NEW], [NEW])).deliver(LATE)
    assert (verdict.answer.outcome, verdict.source) == ("accepted", "query")


async def test_too_late_and_nothing_proved_is_waited_for_or_unknown() -> None:
    with pytest.raises(VenueAway):
        await delivery(Script([NEW], [NOT_SENT])).deliver(LATE)
    assert (await delivery(Script([NEW], [UNKNOWN])).deliver(LATE)).answer.outcome == "unknown"


async def test_it_becomes_too_late_between_two_tries() -> None:
    clock = ManualClock()
    venue = Script([NOT_SENT], [NOT_FOUND])
    waiting = command(not_after_ns=clock.now_ns() + 1_000_000)
    with pytest.raises(VenueAway, match="too late"):
        await delivery(venue, clock).deliver(waiting)
    assert venue.asked == ["submit 1"]
    assert (await delivery(venue, clock).deliver(waiting)).answer.outcome == "not_sent"


@pytest.mark.parametrize("given", [cancel(), command(kind="submit_again"), command(kind="query")])
async def test_only_a_first_send_can_be_too_late(given: Command) -> None:
    late = Command(**{name: getattr(given, name) for name in given.__struct_fields__} | {"not_after_ns": 1})
    venue = Script([NEW], [NEW])
    assert (await delivery(venue).deliver(late)).answer.outcome == "accepted"
    assert len(venue.asked) == 1
