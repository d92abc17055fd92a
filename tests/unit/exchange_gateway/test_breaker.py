"""When requests to the venue are let through."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exchange_gateway.orders.breaker import FAILURES_MAX, FIRST_OPEN_S, HOLD_S_MAX, OPEN_S_MAX, Breaker
from exchange_gateway.orders.budget import FLOOR_PER_S, TOKENS_MAX, RetryBudget

NOW_S = 100.0
CLOSED = Breaker()
NEARLY = Breaker(failures=FAILURES_MAX - 1)
OPEN = Breaker("open", 0, 1, NOW_S + FIRST_OPEN_S)
DUE = Breaker("open", 0, 1, NOW_S)
PROBING = Breaker("half_open", 0, 1, NOW_S)
WORN = Breaker("half_open", 0, 50, NOW_S)


def asked(breaker: Breaker) -> Breaker | None:
    return breaker.asked(NOW_S)


def failed(breaker: Breaker) -> Breaker:
    return breaker.failed(NOW_S)


def held(breaker: Breaker) -> Breaker:
    return breaker.held(NOW_S, 3.0)


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        (CLOSED, asked, CLOSED),
        (OPEN, asked, None),
        (DUE, asked, PROBING),
        (PROBING, asked, None),
        (CLOSED, Breaker.heard, CLOSED),
        (NEARLY, Breaker.heard, CLOSED),
        (OPEN, Breaker.heard, OPEN),
        (DUE, Breaker.heard, DUE),
        (PROBING, Breaker.heard, CLOSED),
        (CLOSED, failed, Breaker(failures=1)),
        (NEARLY, failed, OPEN),
        (OPEN, failed, OPEN),
        (PROBING, failed, Breaker("open", 0, 2, NOW_S + 2 * FIRST_OPEN_S)),
        (WORN, failed, Breaker("open", 0, 51, NOW_S + OPEN_S_MAX)),
        (CLOSED, held, Breaker("open", 0, 0, NOW_S + 3)),
        (PROBING, held, Breaker("open", 0, 1, NOW_S + 3)),
        (Breaker("open", 0, 1, NOW_S + 9), held, Breaker("open", 0, 1, NOW_S + 9)),
    ],
)
def test_table(before: Breaker, event: Callable[[Breaker], Breaker | None], after: Breaker | None) -> None:
    assert event(before) == after


def test_a_pause_that_the_venue_asks_for_is_bounded() -> None:
    assert CLOSED.held(NOW_S, 86_400.0).until_s == NOW_S + HOLD_S_MAX


def test_an_outage_of_any_length_is_probed_at_a_bounded_pace_and_ends_with_the_first_answer() -> None:
    breaker, now_s, probes = CLOSED, 0.0, 0
    for _ in range(FAILURES_MAX):
        breaker = breaker.failed(now_s)
    while now_s < 3600.0:
        now_s = breaker.until_s
        probe = breaker.asked(now_s)
        assert probe is not None
        breaker = probe.failed(now_s)
        probes += 1
    assert 3600 / OPEN_S_MAX - 2 < probes < 3600 / OPEN_S_MAX + 10
    probe = breaker.asked(breaker.until_s)
    assert probe
    assert probe.heard() == CLOSED


def test_retries_are_a_tenth_of_what_is_sent_and_a_floor() -> None:
    budget = RetryBudget(NOW_S)
    while budget.take(NOW_S):
        pass
    assert not budget.take(NOW_S)
    for _ in range(100):
        budget.sent()
    assert sum(budget.take(NOW_S) for _ in range(50)) in (9, 10)
    assert sum(budget.take(NOW_S + 5.0) for _ in range(50)) in (int(5 * FLOOR_PER_S), int(5 * FLOOR_PER_S) + 1)
    assert sum(budget.take(NOW_S + 1e6) for _ in range(100)) == int(TOKENS_MAX)
