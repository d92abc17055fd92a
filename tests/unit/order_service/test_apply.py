"""Messages of `order-status` on a loaded batch."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from infra.contracts import Malformed, Reason, Report
from order_service.domain import facts
from order_service.domain.ledger import Balance
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Why
from order_service.heard import heard
from order_service.reports.apply import Applied, Ignored, Unusable, Verdict, decide
from order_service.reports.order_status import Settled
from order_service.reports.strangers import Stranger
from order_service.store.unit import Account, Unit
from tests.unit.order_service.makers import NOW_US, fill, new_ids, order, outcome, report

ORDER = order()


def unit_of(*orders: Order) -> Unit:
    unit = Unit(accounts={1: Account(1, seq=5, open_orders=len(orders) or 1)})
    for one in orders or (ORDER,):
        unit.loaded(one)
    return unit


def tell(unit: Unit, *reports: Report) -> list[Verdict]:
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    return [decide(unit, heard(one), NOW_US + 1, trace, new_ids(9)) for one in reports]


def test_one_change_is_one_event_and_one_message() -> None:
    unit = unit_of()
    new = report(ORDER, "NEW", venue_seq=1)
    again = report(ORDER, "NEW", venue_seq=1, source="drop_copy")
    first, second = tell(unit, new, again)
    assert isinstance(first, Applied)
    assert second == Ignored("nothing_new")
    (event,) = unit.events
    assert (event.type, event.cause, event.version, event.account_seq) == ("OrderAccepted", "exec:E-1", 2, 6)
    (row,) = unit.outbox
    assert (row.id, row.aggregatetype, row.payload) == (event.event_id, "order-events", event.payload)


def test_the_same_fill_from_three_sources_counts_once() -> None:
    unit = unit_of()
    verdicts = tell(unit, *(fill(ORDER, 4, 100, 2, source=s) for s in ("answer", "webhook", "drop_copy")))
    assert verdicts[1:] == [Ignored("duplicate")] * 2
    assert unit.orders[ORDER.id].cum_qty == 4
    assert len(unit.executions) == len(unit.events) == 1


def test_the_same_exec_id_of_a_later_session_is_another_fill() -> None:
    unit = unit_of()
    tell(unit, fill(ORDER, 4, 100, 2, exec_id="E-7"), fill(ORDER, 4, 100, 3, exec_id="E-7"))
    assert unit.orders[ORDER.id].cum_qty == 8


def test_the_same_exec_id_with_other_numbers_is_set_aside() -> None:
    unit = unit_of()
    _, second = tell(unit, fill(ORDER, 4, 100, 2), fill(ORDER, 5, 100, 2))
    assert isinstance(second, Unusable)
    assert second.code == "exec_id_conflict"
    assert unit.orders[ORDER.id].cum_qty == 4
    (found,) = unit.breaks.values()
    assert (found.kind, found.order_id) == ("exec_conflict", ORDER.id)
    assert (found.ours["lastQuantity"], found.theirs["lastQuantity"]) == (4, 5)


def test_reports_of_several_orders_in_one_batch() -> None:
    other = order("01890000-0000-7000-8000-000000000002")
    unit = unit_of(ORDER, other)
    tell(unit, report(ORDER, "NEW", venue_seq=1), fill(other, 10, 100, 2), fill(ORDER, 3, 100, 2))
    assert unit.orders[other.id].status is Status.FILLED
    assert {version for version, _ in unit.updated.values()} == {1}
    assert [e.account_seq for e in unit.events] == [6, 7, 8]


@pytest.mark.parametrize(
    ("reports", "types"),
    [
        ([fill(ORDER, 10, 1, 2)], ["OrderFilled"]),
        ([fill(ORDER, 1, 1, 2), fill(ORDER, 9, 1, 3)], ["OrderPartiallyFilled", "OrderFilled"]),
        ([report(ORDER, "CANCELED", venue_seq=2), fill(ORDER, 1, 1, 3)], ["OrderCanceled", "OrderPartiallyFilled"]),
        ([report(ORDER, "REJECTED", venue_seq=1)], ["OrderRejected"]),
        ([report(ORDER, "EXPIRED", venue_seq=2)], ["OrderExpired"]),
        ([outcome(ORDER, "accepted", attempts=1)], ["OrderSendConfirmed"]),
        ([outcome(ORDER, "unknown"), report(ORDER, "NEW", venue_seq=1)], ["OrderSendUnknown", "OrderAccepted"]),
        ([outcome(ORDER, "parked")], ["OrderSendParked"]),
        ([outcome(ORDER, "refused")], ["OrderRejected"]),
        ([outcome(ORDER, "not_sent", reason=Reason("not_after_passed"))], ["OrderExpired"]),
        ([outcome(ORDER, "not_sent", reason=Reason("kill_switch", "Off."))], ["OrderFailed"]),
    ],
)
def test_event_types(reports: list[Report], types: list[str]) -> None:
    unit = unit_of()
    tell(unit, *reports)
    assert [event.type for event in unit.events] == types


def test_reasons_are_the_senders_own_where_given() -> None:
    unit = unit_of()
    tell(unit, report(ORDER, "REJECTED", venue_seq=1, reason=Reason("halted", "AAPL is halted.")))
    assert unit.orders[ORDER.id].reason == Why("halted", "AAPL is halted.")
    unit = unit_of()
    tell(unit, outcome(ORDER, "not_sent"))
    reason = unit.orders[ORDER.id].reason
    assert reason is not None
    assert reason.code == "not_sent"


def bust(of: Order | str, ref: str, venue_seq: int, **changes: Any) -> Report:
    return report(of, "TRADE_CANCEL", exec_ref_id=ref, venue_seq=venue_seq, **changes)


def corrected(of: Order | str, ref: str, qty: int, micros: int, venue_seq: int) -> Report:
    return report(of, "TRADE_CORRECT", exec_ref_id=ref, last_qty=qty, last_micros=micros, venue_seq=venue_seq)


def test_a_bust_and_a_correction_restate_their_fill() -> None:
    unit = unit_of()
    tell(unit, fill(ORDER, 6, 100, 2), corrected(ORDER, "E-2", 5, 90, 3), fill(ORDER, 2, 80, 4), bust(ORDER, "E-4", 5))
    found = unit.orders[ORDER.id]
    assert (found.status, found.cum_qty, found.cum_notional_micros) == (Status.PARTIALLY_FILLED, 5, 450)
    assert [event.type for event in unit.events][1::2] == ["OrderFillCorrected", "OrderFillBusted"]
    assert tell(unit, bust(ORDER, "E-4", 5)) == [Ignored("duplicate")]


def test_a_bust_that_overtakes_its_fill_counts() -> None:
    unit = unit_of()
    tell(unit, bust(ORDER, "E-2", 3), fill(ORDER, 6, 100, 2))
    assert (unit.orders[ORDER.id].status, unit.orders[ORDER.id].cum_qty) == (Status.PLACED, 0)


def test_exec_ids_of_two_orders_have_nothing_to_do_with_each_other() -> None:
    other = order("01890000-0000-7000-8000-000000000002")
    unit = unit_of(ORDER, other)
    tell(unit, fill(ORDER, 4, 100, 2), fill(other, 3, 100, 2), bust(other, "E-2", 3))
    assert (unit.orders[ORDER.id].cum_qty, unit.orders[other.id].cum_qty) == (4, 0)


def replacing() -> Order:
    placed = order(status=Status.PLACED, standing=Status.PLACED, venue_seq=1)
    return facts.replace_requested(placed, 2, 20, 600_000_000, NOW_US)


@pytest.mark.parametrize(
    ("asked", "said", "type_"),
    [
        (replacing(), {"exec_type": "REPLACED", "quantity": 20, "limit_micros": 600_000_000}, "OrderReplaced"),
        (replacing(), {"kind": "cancel_reject", "reason": Reason("too_late")}, "OrderReplaceRejected"),
        (facts.cancel_requested(ORDER, 2, NOW_US), {"kind": "cancel_reject"}, "OrderCancelRejected"),
        (facts.cancel_requested(ORDER, 2, NOW_US), {"exec_type": "CANCELED"}, "OrderCanceled"),
    ],
)
def test_answers_to_later_requests(asked: Order, said: dict[str, Any], type_: str) -> None:
    unit = unit_of(asked)
    tell(unit, report(asked, request_number=2, venue_seq=2, **said))
    assert [event.type for event in unit.events] == [type_]
    assert unit.orders[asked.id].pending is None


def test_an_overfill_counts_and_blocks_the_account() -> None:
    unit = unit_of()
    verdicts = tell(unit, fill(ORDER, 7, 100, 2), fill(ORDER, 7, 100, 3))
    assert [isinstance(verdict, Applied) and verdict.overfilled for verdict in verdicts] == [False, True]
    assert unit.orders[ORDER.id].cum_qty == 14
    assert unit.position(1, "AAPL").unsettled == 14
    assert unit.accounts[1].status == "blocked"
    (found,) = unit.breaks.values()
    assert (found.kind, found.account_id, found.theirs) == ("overfill", 1, {"cumQuantity": 14})


UNKNOWN = "01890000-0000-7000-8000-000000000009"


def stray(venue_seq: int = 2, **changes: Any) -> Report:
    return fill(UNKNOWN, 5, 100, venue_seq, symbol="IBM", side="sell", **changes)


def suspended(unit: Unit) -> dict[str, int]:
    moved: dict[str, int] = {}
    for row in unit.ledger:
        for book, sign in ((row.transfer.target, 1), (row.transfer.source, -1)):
            if book.name == "suspense":
                moved[row.transfer.asset] = moved.get(row.transfer.asset, 0) + sign * row.transfer.amount
    return moved


@pytest.mark.parametrize("cl_ord_id", [None, "somebody-else"])
def test_a_fill_of_no_order_of_ours_is_booked_to_suspense_once(cl_ord_id: str | None) -> None:
    theirs = {} if cl_ord_id is None else {"cl_ord_id": cl_ord_id, "order_id": cl_ord_id}
    said = structs.replace(stray(), **theirs)
    unit = unit_of()
    first, second = tell(unit, said, structs.replace(said, source="drop_copy"))
    assert isinstance(first, Stranger)
    assert second == Ignored("duplicate")
    assert suspended(unit) == {"IBM": -5, "USD": 500}
    assert unit.accounts[1].cash == Balance()
    (found,) = unit.breaks.values()
    assert (found.kind, found.state) == ("unknown_order_fill", "open")
    assert found.theirs["quantity"] == 5
    again = unit_of()
    tell(again, said)
    assert [(row.event_id, row.line) for row in again.ledger] == [(row.event_id, row.line) for row in unit.ledger]


def test_a_bust_of_a_fill_in_suspense_takes_it_out_again() -> None:
    unit = unit_of()
    tell(unit, stray(), bust(UNKNOWN, "E-2", 3))
    assert suspended(unit) == {"IBM": 0, "USD": 0}
    (found,) = unit.breaks.values()
    assert (found.kind, found.state) == ("unknown_order_fill", "explained")


def test_what_else_is_said_of_unknown_orders() -> None:
    unit = unit_of()
    new, canceled, nameless = tell(
        unit, report(UNKNOWN, "NEW"), report(UNKNOWN, "CANCELED"), fill(UNKNOWN, 5, 100, 2, exec_id="E-8")
    )
    assert new == canceled == Ignored("unknown_order")
    assert [found.kind for found in unit.breaks.values()] == ["missing_here"]
    assert isinstance(nameless, Unusable)
    assert nameless.code == "unknown_order"


def test_a_status_report_changes_nothing() -> None:
    assert tell(unit_of(), report(ORDER, "STATUS")) == [Ignored("status_only")]


@pytest.mark.parametrize(
    "changes",
    [
        {"exec_type": None},
        {"exec_type": "TRADE", "last_qty": 1, "last_micros": 1, "exec_id": None},
        {"exec_type": "TRADE", "last_qty": 0, "last_micros": 1},
        {"exec_type": "TRADE", "last_qty": 1, "last_micros": 0},
        {"exec_type": "TRADE_CANCEL", "last_qty": 1, "last_micros": 1},
        {"exec_type": "TRADE_CORRECT", "exec_ref_id": "E-1", "last_qty": 0, "last_micros": 1},
        {"exec_type": "REPLACED", "quantity": 0, "venue_seq": 2},
        {"exec_type": "REPLACED", "quantity": 9, "venue_seq": 0},
        {"kind": "send_outcome"},
        {"order_id": "01890000-0000-7000-8000-000000000002"},
    ],
)
def test_a_report_that_contradicts_itself_is_malformed(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {"exec_type": "NEW", **changes}
    with pytest.raises(Malformed):
        heard(report(ORDER, **values))


def test_a_copy_of_a_settled_report_is_known_and_one_with_other_numbers_is_not() -> None:
    told = Report(
        kind="execution", order_id="o", cl_ord_id="o-1", source="answer", received_ns=1, exec_id="e", last_qty=5
    )
    settled = Settled(reports_max=1)
    settled.add(told)
    assert structs.replace(told, source="webhook", received_ns=2) in settled
    assert structs.replace(told, last_qty=6) not in settled
    settled.add(structs.replace(told, exec_id="f"))
    assert told not in settled  # forgotten: the store dedupes it
    outcome = structs.replace(told, exec_id=None)
    settled.add(outcome)
    assert outcome not in settled
