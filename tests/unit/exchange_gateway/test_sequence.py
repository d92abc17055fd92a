from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange_gateway.orders.sequence import lanes


@given(st.lists(st.sampled_from("abcde")))
def test_each_lane_is_one_order_in_its_order_and_nothing_is_lost(orders: list[str]) -> None:
    numbered = [(order, (order, i)) for i, order in enumerate(orders)]
    found = lanes(numbered)
    assert sorted(item for lane in found for item in lane) == sorted(item for _, item in numbered)
    assert [lane[0][0] for lane in found] == list(dict.fromkeys(orders))
    for lane in found:
        assert len({order for order, _ in lane}) == 1
        assert lane == sorted(lane)
