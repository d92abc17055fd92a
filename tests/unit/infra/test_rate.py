"""How often someone may ask."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.rate import LocalRate, Unlimited, rate


def test_a_burst_passes_at_once_and_then_the_rate_holds() -> None:
    limit = LocalRate(per_second=10, burst=3)
    assert [limit.take("a", 100.0) for _ in range(3)] == [0, 0, 0]
    wait_s = limit.take("a", 100.0)
    assert wait_s == pytest.approx(0.1, abs=1e-5)
    assert limit.take("a", 100.0 + wait_s / 2) > 0
    assert limit.take("a", 100.0 + wait_s + 1e-5) == 0
    assert limit.take("a", 100.0 + wait_s + 1e-5) > 0


def test_a_refused_request_is_not_counted_and_callers_do_not_share() -> None:
    limit = LocalRate(1, 1)
    assert limit.take("a", 5.0) == 0
    assert [limit.take("a", 5.0) for _ in range(100)] == [pytest.approx(1.0, abs=1e-5)] * 100
    assert limit.take("b", 5.0) == 0
    assert limit.take("a", 6.0) == 0


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 2**32))
def test_never_more_than_the_rate_and_the_burst_in_any_window(per_second: int, burst: int, seed: int) -> None:
    chance, limit, now, passed = random.Random(seed), LocalRate(per_second, burst), 1_000.0, list[float]()
    for _ in range(100):
        now += chance.expovariate(per_second * 2)
        if not limit.take("a", now):
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            # A window of w seconds holds the burst and what flowed in meanwhile.
            assert last - first + 1 <= burst + (passed[last] - passed[first]) * per_second + 1e-3


def test_memory_is_bounded_and_full_buckets_go_first() -> None:
    limit = LocalRate(1, 5, buckets_max=10)
    for number in range(9):
        limit.take(f"idle {number}", 0.5)
    for _ in range(5):
        limit.take("busy", 1_000.0)
    for number in range(500):
        limit.take(f"new {number}", 1_000.0)
        assert len(limit) <= 10
    fresh = LocalRate(1, 5, buckets_max=4)
    for _ in range(5):
        fresh.take("busy", 1_000.0)
    for number in range(3):
        fresh.take(f"idle {number}", 900.0)
    fresh.take("new", 1_000.0)
    assert fresh.take("busy", 1_000.0) > 0


def test_no_rate_is_no_limit() -> None:
    assert isinstance(rate(0, 5), Unlimited)
    assert not any(rate(0, 5).take("a", 1.0) for _ in range(1_000))
    assert rate(1, 1).take("a", 1.0) == 0
