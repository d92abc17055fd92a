from __future__ import annotations

import pytest

from exchange_gateway.reports.normalise import event_id, normalise
from exchange_gateway.venue import VenueReport
from infra.contracts import Malformed, Reason, Report, cl_ord_id, decode, encode
from tests.unit.exchange_gateway.words import order_id, venue_report

TOO_LATE = Reason("too_late", "filled")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            venue_report(),
            {"kind": "execution", "exec_type": "TRADE", "last_qty": 4, "last_micros": 99_990_000, "leaves_qty": 6},
        ),
        (venue_report(exec_type="NEW", order_status="NEW", last_qty=0), {"exec_type": "NEW", "last_qty": 0}),
        (
            venue_report(kind="cancel_reject", exec_type=None, reason=TOO_LATE, exchange_order_id=None),
            {"kind": "cancel_reject", "exec_type": None, "reason": TOO_LATE, "exchange_order_id": None},
        ),
        (
            venue_report(exec_type="TRADE_CANCEL", exec_ref_id="1700000000-9"),
            {"exec_type": "TRADE_CANCEL", "exec_ref_id": "1700000000-9"},
        ),
        (
            venue_report(exec_type="REPLACED", cl_ord_id=cl_ord_id(order_id(), 2)),
            {"order_id": order_id(), "cl_ord_id": cl_ord_id(order_id(), 2)},
        ),
        (venue_report(cl_ord_id="someone-else"), {"order_id": "someone-else", "cl_ord_id": "someone-else"}),
    ],
)
def test_report(given: VenueReport, expected: dict[str, object]) -> None:
    ours = normalise(given, "webhook", 77)
    assert {name: getattr(ours, name) for name in expected} == expected
    assert (ours.source, ours.received_ns, ours.venue_seq, ours.exec_id) == ("webhook", 77, 2, given.exec_id)
    assert decode(Report, encode(ours)) == ours


def test_one_report_has_one_id_per_source() -> None:
    assert event_id(venue_report(), "answer") == event_id(venue_report(last_qty=5), "answer")
    ids = {event_id(venue_report(), "answer"), event_id(venue_report(), "webhook")}
    ids |= {event_id(venue_report(session=1), "answer"), event_id(venue_report(exec_id="x"), "answer")}
    assert len(ids) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"last_qty": 1.5},
        {"last_micros": "1"},
        {"exec_type": "SOMETHING"},
        {"kind": "x"},
        {"exec_id": None},
        {"cl_ord_id": ""},
    ],
)
def test_a_report_with_other_types_is_malformed(changes: dict[str, object]) -> None:
    plain: dict[str, object] = decode(dict[str, object], encode(venue_report()))
    assert decode(VenueReport, encode(plain)) == venue_report()
    with pytest.raises(Malformed):
        decode(VenueReport, encode(plain | changes))
