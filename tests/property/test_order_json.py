"""An order written into the events about it comes back as it was, and clients see nothing but the Order JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.contracts import cl_ord_id
from order_service.domain.lifecycle import ENDS, Status
from order_service.domain.order import TIFS, Order, Outcome, Pending, Why
from order_service.store.order_json import client_event, event_payload, order_bytes, rebuilt
from tests.stored_orders import order

ID = "01890000-0000-7000-8000-000000000001"
counts = st.integers(0, 2**62)
prices = st.none() | st.integers(1, 10**18)
times = st.integers(0, 4_000_000_000_000_000)
reasons = st.none() | st.builds(
    Why, st.text(), st.text(), st.none() | st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text())
)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    pending = draw(st.none() | st.sampled_from(list(Pending)))
    changes: dict[str, Any] = {
        "order_type": draw(st.sampled_from(["buy", "sell"])),
        "quantity": draw(st.integers(1, 2**62)),
        "amount_micros": draw(prices),
        "tif": draw(st.sampled_from(TIFS)),
        "status": draw(st.sampled_from(list(Status))),
        "standing": draw(st.sampled_from([Status.PENDING, Status.HELD, Status.PLACED, *ENDS])),
        "pending": pending,
        "outcome": draw(st.sampled_from(list(Outcome))),
        "cum_qty": draw(st.integers(-(2**62), 2**62)),
        "cum_notional_micros": draw(st.integers(-(2**62), 2**62)),
        "replaces": draw(st.none() | st.just(cl_ord_id(ID, 1))),
        "requests": draw(st.integers(1, 100)),
        "asked_quantity": draw(st.integers(1, 2**62)) if pending is Pending.REPLACE else None,
        "asked_micros": draw(prices) if pending is Pending.REPLACE else None,
        "reserve_micros": draw(prices),
        "idempotency_key": draw(st.text()),
        "reason": draw(reasons),
        "next_attempt_us": draw(st.none() | times),
        "not_after_us": draw(st.none() | times),
        "created_us": draw(times),
        "updated_us": draw(times),
    }
    for name in ("leaves_qty", "venue_seq", "terms_seq", "fee_per_share_micros", "fee_min_micros", "attempts"):
        changes[name] = draw(counts)
    return order(ID, **changes)


@given(orders(), orders())
def test_an_order_is_rebuilt_from_its_events(first: Order, last: Order) -> None:
    last = replace(last, version=2)
    payloads = [event_payload(o, "e", "OrderUpdated", "test", 1) for o in (first, last)]
    assert rebuilt(payloads[:1]) == first
    assert rebuilt(payloads) == last
    shown = json.loads(client_event(payloads[1]))
    assert "state" not in shown
    assert shown["order"] == json.loads(order_bytes(last))


@pytest.mark.parametrize("payloads", [[], ["{}"], ["not json"]])
def test_what_is_no_history_is_refused(payloads: list[str]) -> None:
    with pytest.raises(ValueError):
        rebuilt(payloads)
