"""Holes and the plan to close them, against sets of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from price_service.domain.days import DayKey
from price_service.domain.holes import Runs, both, holes_in, in_blocks, joined, size, without
from price_service.domain.seen import Seen
from price_service.gaps.plan import ANSWERS_MAX, BLOCK, PAUSE_S_MAX, Gaps

KEY = DayKey("AAPL", 1)
WAIT_S = 3.0
LOOK_S = 1.0
LOOKS_MAX = 10_000

numbers = st.sets(st.integers(1, 60))


def runs(of: set[int]) -> Runs:
    return joined([(q, q) for q in of], [])


def members(found: Runs) -> set[int]:
    return {q for first, last in found for q in range(first, last + 1)}


def is_tidy(found: Runs) -> bool:
    """Ascending, disjoint, not touching."""
    return all(first <= last for first, last in found) and all(
        one[1] + 1 < other[0] for one, other in itertools.pairwise(found)
    )


@given(st.lists(st.integers(1, 60)))
def test_holes_are_what_has_not_come_below_the_newest(order: list[int]) -> None:
    seen = Seen()
    for q in order:
        seen.add(q)
    found = holes_in(seen)
    assert members(found) == set(range(1, max(order, default=0) + 1)) - set(order)
    assert is_tidy(found)
    assert size(found) == seen.missing


@given(numbers, numbers, st.integers(1, 20))
def test_runs_are_sets(one: set[int], other: set[int], block: int) -> None:
    a, b = runs(one), runs(other)
    for found, expected in (
        (both(a, b), one & other),
        (without(a, b), one - other),
        (joined(a, b), one | other),
    ):
        assert members(found) == expected
        assert is_tidy(found)
    blocks = in_blocks(a, block)
    assert {number: members(found) for number, found in blocks.items()} == {
        number: {q for q in one if q // block == number} for number in {q // block for q in one}
    }


@given(
    st.sets(st.integers(1, 3 * BLOCK), min_size=1, max_size=40),
    st.sets(st.integers(1, 3 * BLOCK), max_size=40),
    st.sets(st.integers(1, 3 * BLOCK), max_size=5),
    st.lists(st.booleans(), max_size=6),
)
def test_every_hole_ends_and_the_requests_are_few(
    missing: set[int], gone: set[int], unstorable: set[int], answers: list[bool]
) -> None:
    """A venue that has all but `gone`, a store that never takes `unstorable`, a gateway that answers as `answers` say
    and then always."""
    gaps, now_s, requests = Gaps(WAIT_S), 0.0, 0
    left, missed = set(missing), len(missing)
    asked_at: dict[int, float] = {}
    for _ in range(LOOKS_MAX):
        for ask in gaps.look({KEY: runs(left)}, now_s, asks_max=2):
            requests += 1
            assert now_s >= WAIT_S
            assert ask.last - ask.first < BLOCK
            block = ask.first // BLOCK
            assert now_s > asked_at.get(block, -1.0)
            asked_at[block] = now_s
            if answers and not answers.pop():
                gaps.unanswered(ask, now_s)
                continue
            named = set(range(ask.first, ask.last + 1))
            gaps.answered(ask, runs(named & gone), now_s)
            left -= named - gone - unstorable
        now_s += LOOK_S if not unstorable else PAUSE_S_MAX
        if not gaps.missing and now_s > WAIT_S:
            break
    gaps.look({KEY: runs(left)}, now_s, asks_max=2)
    assert gaps.missing == 0
    assert left == missing & (gone | unstorable)
    assert gaps.lost == len(missing & gone)
    assert gaps.closed == missed - len(left)
    assert requests <= 6 + 4 * ANSWERS_MAX
    assert gaps.look({KEY: runs(left)}, now_s + 10 * PAUSE_S_MAX, asks_max=2) == []
