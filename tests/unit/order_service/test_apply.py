"""Messages of `order-status` on a loaded batch."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from infra.contracts import Malformed, Reason, Report
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Why
from order_service.reports.apply import Applied, Heard, Ignored, Unusable, Verdict, decide, heard
from order_service.reports.order_status import Settled
from order_service.store.unit import Account, Unit
from tests.unit.order_service.makers import NOW_US, fill, new_ids, order, outcome, report

ORDER = order()


def unit_of(*orders: Order) -> Unit:
    unit = Unit(accounts={1: Account(1, "active", 5)})
    for one in orders or (ORDER,):
        unit.loaded(one)
    return unit


def tell(unit: Unit, *reports: Report) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for one in reports:
        said = heard(one)
        assert isinstance(said, Heard)
        verdicts.append(decide(unit, said, NOW_US + 1, "00-" + "1" * 32 + "-" + "2" * 16 + "-01", new_ids(9)))
    return verdicts


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


def test_what_cannot_be_applied() -> None:
    unknown = order("01890000-0000-7000-8000-000000000009")
    verdicts = tell(unit_of(), report(unknown, "NEW"), report(ORDER, "TRADE_CANCEL"), report(ORDER, "STATUS"))
    assert [getattr(v, "code", None) for v in verdicts] == ["unknown_order", "not_supported", None]


@pytest.mark.parametrize(
    "changes",
    [
        {"exec_type": None},
        {"exec_type": "TRADE", "last_qty": 1, "last_micros": 1, "exec_id": None},
        {"exec_type": "TRADE", "last_qty": 0, "last_micros": 1},
        {"exec_type": "TRADE", "last_qty": 1, "last_micros": 0},
        {"kind": "send_outcome"},
        {"order_id": "01890000-0000-7000-8000-000000000002"},
    ],
)
def test_a_report_that_contradicts_itself_is_malformed(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {"exec_type": "NEW", **changes}
    with pytest.raises(Malformed):
        heard(report(ORDER, **values))


def test_a_report_that_cannot_be_about_an_order_of_ours() -> None:
    assert isinstance(heard(report(ORDER, "NEW", order_id="X-1", cl_ord_id="X-1")), Unusable)
    assert isinstance(heard(report(ORDER, "NEW", cl_ord_id="somebody-else")), Unusable)


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
