"""Made-up bars: whatever the listing, they are bars, agree with each other, and lead to the previous close."""

from __future__ import annotations

from itertools import groupby, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.contracts import Instrument
from price_service.domain.bars import MINUTE_NS
from price_service.seed.history import DAYS_WITH_MINUTES, HOUR_NS, Candle, Hours, MadeUp, made_up

DAY_NS = 24 * HOUR_NS
BEGIN_NS = 1_700_006_400_000_000_000  # a midnight UTC

listings = st.builds(
    lambda tick, ticks: Instrument("XYZ", "Xyz", tick, 1, 1, tick * ticks),
    st.sampled_from((1, 100, 10_000, 50_000)),
    st.integers(1, 10**8),
)
minutes_of_a_day = st.integers(1, 400)


def sessions(lengths: list[int]) -> list[Hours]:
    starts = [BEGIN_NS + at * DAY_NS for at in range(len(lengths))]
    opens = [start + 9 * HOUR_NS + 30 * MINUTE_NS for start in starts]
    return [Hours(s, o, o + n * MINUTE_NS) for s, o, n in zip(starts, opens, lengths, strict=True)]


def bars(made: MadeUp) -> list[Candle]:
    return [*made.days, *made.hours, *made.minutes]


@given(listings, st.lists(minutes_of_a_day, min_size=1, max_size=4), st.integers(1, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_bar_is_one(listing: Instrument, lengths: list[int], seed: int) -> None:
    made = made_up(listing, sessions(lengths), Random(seed))
    for bar in bars(made):
        assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert all(price % listing.tick_micros == 0 for price in bar[1:5])
        assert 1 <= bar.trades <= bar.volume
        assert bar.low * bar.volume <= bar.notional_micros <= bar.high * bar.volume


@given(listings, st.lists(minutes_of_a_day, min_size=1, max_size=4), st.integers(1, 2**32))
@settings(max_examples=60, deadline=None)
def test_minutes_fill_the_sessions_and_end_at_the_previous_close(
    listing: Instrument, lengths: list[int], seed: int
) -> None:
    days = sessions(lengths)
    made = made_up(listing, days, Random(seed))
    wanted = [ns for day in days for ns in range(day.open_ns, day.close_ns, MINUTE_NS)]
    assert [bar.start_ns for bar in made.minutes] == wanted
    assert [bar.start_ns for bar in made.days] == [day.midnight_ns for day in days]
    assert made.minutes[-1].close == made.days[-1].close == listing.previous_close_micros
    assert made.until_ns == days[-1].close_ns
    within = [pair for pair in pairwise(made.minutes) if pair[1].start_ns - pair[0].start_ns == MINUTE_NS]
    assert all(one.close == following.open for one, following in within)


@given(listings, st.lists(minutes_of_a_day, min_size=2, max_size=4), st.integers(1, 2**32))
@settings(max_examples=30, deadline=None)
def test_hours_and_days_are_what_their_minutes_make(listing: Instrument, lengths: list[int], seed: int) -> None:
    made = made_up(listing, sessions(lengths), Random(seed))
    by_hour = groupby(made.minutes, lambda bar: bar.start_ns // HOUR_NS)
    by_day = groupby(made.minutes, lambda bar: bar.start_ns // DAY_NS)
    for longer, grouped in ((made.hours, by_hour), (made.days, by_day)):
        groups = [list(part) for _, part in grouped]
        assert len(groups) == len(longer)
        for bar, parts in zip(longer, groups, strict=True):
            assert (bar.open, bar.close) == (parts[0].open, parts[-1].close)
            assert (bar.high, bar.low) == (max(p.high for p in parts), min(p.low for p in parts))
            for name in ("volume", "trades", "notional_micros"):
                assert getattr(bar, name) == sum(getattr(part, name) for part in parts)


def test_older_days_have_no_minutes_and_the_walk_is_plausible() -> None:
    listing = Instrument("XYZ", "Xyz", 10_000, 1, 1, 580_250_000)
    made = made_up(listing, sessions([390] * 504), Random(5))
    assert len(made.minutes) == DAYS_WITH_MINUTES * 390
    assert made.minutes[0].start_ns // DAY_NS == made.days[-DAYS_WITH_MINUTES].start_ns // DAY_NS
    moves = [abs(after.close - before.close) / before.close for before, after in pairwise(made.days)]
    assert 0.005 < sum(moves) / len(moves) < 0.02
    last = made.minutes[-390:]
    at_the_ends = sum(bar.volume for bar in [*last[:30], *last[-30:]])
    assert at_the_ends > 1.5 * sum(bar.volume for bar in last[165:225])


@given(listings, st.integers(1, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_same_again(listing: Instrument, seed: int) -> None:
    days = sessions([60, 60])
    assert made_up(listing, days, Random(seed)) == made_up(listing, days, Random(seed))


def test_a_previous_close_between_two_ticks_is_still_the_last_close() -> None:
    listing = Instrument("XYZ", "Xyz", 10_000, 1, 1, 580_251_234)
    made = made_up(listing, sessions([5, 5]), Random(1))
    last = made.minutes[-1]
    assert last.close == 580_251_234
    assert last.low <= last.close <= last.high
