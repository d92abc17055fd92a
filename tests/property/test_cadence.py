"""When a quote is stale: never before the floor, never after the cap, and by what its symbol usually does."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from price_service.live.cadence import BURST_MS, GAPS, Cadence

FLOOR_MS, CAP_MS = 5_000, 300_000
START_MS = 1_700_000_000_000
gaps = st.lists(st.integers(0, 10 * CAP_MS), max_size=200)


def after(steps_ms: list[int]) -> Cadence:
    """The cadence of ticks with these gaps, taken as the table takes them."""
    made = Cadence(FLOOR_MS, CAP_MS)
    for now_ms in accumulate(steps_ms, initial=START_MS):
        if now_ms >= made.due_ms:
            made.arrived(now_ms)
    return made


@given(gaps)
def test_between_floor_and_cap_whatever_comes(steps_ms: list[int]) -> None:
    made = after(steps_ms)
    assert isinstance(made.stale_after_ms, int)
    assert FLOOR_MS <= made.stale_after_ms <= CAP_MS


@given(st.integers(2 * BURST_MS, CAP_MS // GAPS), st.integers(0, 2**32))
def test_a_steady_symbol_is_stale_after_five_of_its_gaps(gap_ms: int, seed: int) -> None:
    chance = random.Random(seed)
    steps = [chance.randint(gap_ms * 9 // 10, gap_ms * 11 // 10) for _ in range(100)]
    wanted = max(GAPS * gap_ms, FLOOR_MS)
    assert wanted * 0.85 <= after(steps).stale_after_ms <= wanted * 1.15 + GAPS


@given(st.integers(FLOOR_MS, CAP_MS // GAPS), st.integers(1, 30))
def test_bursts_count_as_one_arrival(gap_ms: int, size: int) -> None:
    """A minute of silence and then thirty ticks at once is a cadence of a minute, not of two seconds."""
    burst = [3] * (size - 1)
    steps = [step for _ in range(60) for step in (gap_ms, *burst)]
    alone = after([gap_ms] * 60).stale_after_ms
    assert alone <= after(steps).stale_after_ms <= alone + GAPS * 3 * size


@given(st.integers(60_000, 3_600_000))
def test_an_outage_hardly_teaches_that_silence_is_normal(outage_ms: int) -> None:
    busy = [100] * 500
    assert after([*busy, outage_ms, *busy]).stale_after_ms <= 2 * FLOOR_MS


@given(st.integers(10_000, CAP_MS // GAPS))
def test_a_symbol_that_became_slower_is_believed(gap_ms: int) -> None:
    """Within twenty arrivals a slow symbol is not stale between two of its ticks any more."""
    made = after([1_000] * 100)
    now_ms = made.due_ms
    for _ in range(20):
        now_ms += gap_ms
        made.arrived(now_ms)
    assert made.stale_after_ms > gap_ms


def test_arrivals_without_memory_are_rarely_stale() -> None:
    chance = random.Random(11)
    mean_ms = 20_000
    steps = [round(chance.expovariate(1 / mean_ms)) for _ in range(5_000)]
    made, stale = Cadence(FLOOR_MS, CAP_MS), 0
    for before_ms, now_ms in pairwise(accumulate(steps, initial=START_MS)):
        stale += now_ms - before_ms > made.stale_after_ms
        if now_ms >= made.due_ms:
            made.arrived(now_ms)
    assert stale < len(steps) * 0.04


def test_a_night_is_no_gap() -> None:
    made = after([2_000] * 50)
    before = made.stale_after_ms
    made.begin()
    made.arrived(START_MS + 86_400_000)
    assert made.stale_after_ms == before


@pytest.mark.parametrize(
    ("ticks", "seconds", "stale_after_ms"),
    [
        (0, 3_600, FLOOR_MS),
        (1_000_000, 3_600, FLOOR_MS),
        (60, 3_600, 300_000),
        (360, 3_600, 50_000),
        (5, -10, FLOOR_MS),
    ],
)
def test_a_snapshot_tells_how_often_a_symbol_ticks(ticks: int, seconds: int, stale_after_ms: int) -> None:
    made = Cadence(FLOOR_MS, CAP_MS)
    made.guess(ticks, START_MS, START_MS + seconds * 1_000)
    assert made.stale_after_ms == stale_after_ms


def test_the_floor_wins_over_a_smaller_cap() -> None:
    made = Cadence(10_000, 5_000)
    made.arrived(START_MS)
    made.arrived(START_MS + 60_000)
    assert made.stale_after_ms == 10_000
