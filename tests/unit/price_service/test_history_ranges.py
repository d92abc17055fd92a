"""Which window of time is meant, and how a long one goes on: ranges, moments, cursors."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import NS_PER_S
from infra.refusal import Refusal
from price_service.history.cursors import cursor, digest, resumed
from price_service.history.moments import moment_of
from price_service.history.ranges import INTERVALS, TIMERANGES, choose, window_of

HOUR_NS = 3600 * NS_PER_S
DAY_NS = 24 * HOUR_NS


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


def refused(call: Callable[[], object]) -> str | None:
    """The code, or None."""
    try:
        call()
    except Refusal as refusal:
        return refusal.code
    return None


# A Sunday after a Friday without trading.
NOW = ns("2024-03-31T15:30:20")


@pytest.mark.parametrize(
    ("timerange", "start", "end", "interval"),
    [
        ("1d", "2024-03-28T04:00:00", "2024-03-31T15:31:00", "1m"),
        ("1w", "2024-03-22T04:00:00", "2024-03-31T15:35:00", "5m"),
        ("1m", "2024-02-29T16:00:00", "2024-03-31T16:00:00", "1h"),
        ("3m", "2023-12-31T16:00:00", "2024-03-31T16:00:00", "1h"),
        ("6m", "2023-09-30T04:00:00", "2024-04-01T04:00:00", "1d"),
        ("1y", "2023-03-31T04:00:00", "2024-04-01T04:00:00", "1d"),
        ("ytd", "2024-01-01T05:00:00", "2024-04-01T04:00:00", "1d"),
        ("max", "1970-01-01T00:00:00", "2024-04-01T04:00:00", "1d"),
    ],
)
def test_ranges_end_now_and_go_back_to_whole_buckets(timerange: str, start: str, end: str, interval: str) -> None:
    chosen = choose({"timerange": timerange}, NOW)
    assert chosen.interval == interval
    assert (chosen.window.from_ns, chosen.window.to_ns) == (ns(start), ns(end))


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2024-01-10T15:00:00", "2024-01-10T05:00:00"),  # Wednesday, 10:00 in New York
        ("2024-01-10T14:29:59", "2024-01-09T05:00:00"),  # before the opening it is still Tuesday's chart
        ("2024-01-14T12:00:00", "2024-01-12T05:00:00"),  # Sunday: Friday and what came after
        ("2024-01-15T18:00:00", "2024-01-12T05:00:00"),  # a holiday
        ("2024-03-11T14:00:00", "2024-03-11T04:00:00"),  # the first day of summer time
    ],
)
def test_a_day_is_the_newest_day_of_trading_and_all_that_was_traded_since(now: str, start: str) -> None:
    window = choose({"timerange": "1d"}, ns(now)).window
    assert window.from_ns == ns(start)
    assert window.to_ns > ns(now)


@pytest.mark.parametrize(("timerange", "interval"), list(product(TIMERANGES, INTERVALS)))
def test_every_range_goes_with_every_interval_that_suits_it(timerange: str, interval: str) -> None:
    words = {"timerange": timerange, "interval": interval}
    if interval == "1s" or (timerange, interval) == ("1d", "1d"):
        with pytest.raises(Refusal, match="too_long"):
            choose(words, NOW)
        return
    window = choose(words, NOW).window
    assert 0 <= window.from_ns < NOW < window.to_ns
    assert window.bucket_ns == INTERVALS[interval] * NS_PER_S


@pytest.mark.parametrize(
    ("start", "end", "interval"),
    [
        ("2024-03-28T14:00:00Z", "2024-03-28T14:10:00Z", "1m"),
        ("2024-03-20", "2024-03-21", "1m"),
        ("2024-03-20", "2024-03-27", "5m"),
        ("2024-03-01", "2024-03-27", "15m"),
        ("2024-01-01", "2024-03-27", "1h"),
        ("2020-01-01", "2024-03-27", "1d"),
    ],
)
def test_an_interval_is_chosen_by_the_length_of_the_range(start: str, end: str, interval: str) -> None:
    chosen = choose({"from": start, "to": end}, NOW)
    assert (chosen.timerange, chosen.interval) == (None, interval)


def test_from_and_to_are_widened_to_whole_buckets_and_end_now_at_the_latest() -> None:
    words = {"from": "2024-03-28T10:07:03.5-04:00", "to": "2024-03-28T14:08:00Z", "interval": "5m"}
    window = choose(words, NOW).window
    assert (window.from_ns, window.to_ns) == (ns("2024-03-28T14:05:00"), ns("2024-03-28T14:10:00"))
    days = choose({"from": "2024-03-10", "to": "2024-03-10", "interval": "1d"}, NOW).window
    assert days.to_ns - days.from_ns == 23 * HOUR_NS
    assert choose({"from": "2024-03-31", "to": "2999-01-01"}, NOW).window.to_ns == ns("2024-03-31T15:31:00")
    assert choose({"from": "2024-03-31"}, NOW).window.to_ns == ns("2024-03-31T15:31:00")
    assert choose({"from": "0001-01-01", "to": "1900-01-01"}, NOW).window[:2] == (0, 0)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({}, "timerange_missing"),
        ({"interval": "1m"}, "timerange_missing"),
        ({"to": "2024-03-28"}, "timerange_missing"),
        ({"timerange": "2d"}, "unknown_timerange"),
        ({"timerange": "1d", "from": "2024-03-28"}, "timerange_or_from"),
        ({"timerange": "1d", "interval": "1M"}, "unknown_interval"),
        ({"from": "2024-03-28", "to": "2024-03-27"}, "from_after_to"),
        ({"from": "2024-03-28T00:00:00Z", "to": "2024-03-28T00:00:00Z"}, "from_after_to"),
        ({"from": "2024-03-31T15:30:21Z"}, "range_in_future"),
        ({"from": "2024-03-28T14:00:00Z", "to": "2024-03-28T15:00:01Z", "interval": "1s"}, "range_too_long"),
    ],
)
def test_what_means_nothing_is_refused(words: dict[str, str], code: str) -> None:
    assert refused(lambda: choose(words, NOW)) == code


def test_an_hour_of_seconds_is_allowed() -> None:
    words = {"from": "2024-03-28T14:00:00Z", "to": "2024-03-28T15:00:00Z", "interval": "1s"}
    assert choose(words, NOW).window == window_of(ns("2024-03-28T14:00:00"), ns("2024-03-28T15:00:00"), "1s")


@pytest.mark.parametrize(
    ("raw", "moment_ns"),
    [
        ("2024-01-10T14:30:00Z", ns("2024-01-10T14:30:00")),
        ("2024-01-10t14:30:00.000000001z", ns("2024-01-10T14:30:00") + 1),
        ("2024-01-10T14:30:00.25+05:30", ns("2024-01-10T09:00:00") + NS_PER_S // 4),
        ("2024-01-10T14:30:00 05:30", ns("2024-01-10T09:00:00")),  # a + that was not percent-encoded
        ("1969-12-31T23:59:59.5Z", -NS_PER_S // 2),
        ("2024-01-10", ns("2024-01-10T05:00:00")),
    ],
)
def test_moments_are_read_exactly(raw: str, moment_ns: int) -> None:
    assert moment_of(raw, "from") == moment_ns


def test_a_date_as_an_end_is_the_end_of_that_day() -> None:
    assert moment_of("2024-03-10", "to") - moment_of("2024-03-10", "from") == 23 * HOUR_NS


@pytest.mark.parametrize(
    "raw",
    [
        *("", "now", "0", "1711899020", "2024-13-01", "2024-02-30", "2024-1-1", "20240101", "2024-W10-1", "٢٠٢٤-٠١-٠١"),
        *("2024-01-10T14:30:00", "2024-01-10T14:30Z", "2024-01-10T24:30:00Z", "2024-01-10T14:30:60Z"),
        *("2024-01-10T14:30:00.1234567890Z", "2024-01-10T14:30:00+99:00", "0001-01-01T00:00:00+14:00"),
        *("9999-12-31T23:59:59-14:00", "2024-01-10T14:30:00Z\n", "0000-01-01", "9" * 10_000),
    ],
)
def test_what_is_no_moment_is_refused(raw: str) -> None:
    with pytest.raises(Refusal) as found:
        moment_of(raw, "to")
    assert found.value.code == "invalid_time"
    assert len(str(found.value.details)) < 200


@given(st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?"))
def test_any_text_is_a_moment_or_refused(raw: str) -> None:
    assert refused(lambda: choose({"from": raw}, NOW)) in (None, "invalid_time", "range_in_future")


WORDS = {"timerange": "1m", "interval": "1m"}
FIRST = choose(WORDS, NOW)
BEFORE = FIRST.window.from_ns + 7 * DAY_NS


def test_a_cursor_goes_on_in_the_same_range_whatever_the_time_is() -> None:
    made = cursor("AAPL", FIRST, True, digest(WORDS), BEFORE)
    for words in ({"cursor": made}, {"cursor": made, **WORDS}):
        chosen, adjusted, first = resumed("AAPL", words)
        assert chosen == FIRST._replace(before_ns=BEFORE)
        assert (adjusted, first) == (True, digest(WORDS))
        assert chosen.page == FIRST.window._replace(to_ns=BEFORE)
    assert len(made) <= 100


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        ("MSFT", {}),
        ("AAPL", {"timerange": "1m"}),
        ("AAPL", WORDS | {"adjusted": "true"}),
        ("AAPL", {"to": "2024-01-01"}),
    ],
)
def test_a_cursor_of_another_range_is_refused(symbol: str, words: dict[str, str]) -> None:
    made = cursor("AAPL", FIRST, False, digest(WORDS), BEFORE)
    assert refused(lambda: resumed(symbol, {"cursor": made, **words})) == "cursor_of_another_range"


@given(st.text(max_size=300) | st.binary(max_size=120).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_cursor_is_refused(raw: str) -> None:
    assert refused(lambda: resumed("AAPL", {"cursor": raw})) == "invalid_cursor"


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_cursor_that_was_tampered_with_asks_for_nothing_strange(at: int, byte: int) -> None:
    made = bytearray(base64.urlsafe_b64decode(cursor("AAPL", FIRST, False, digest(WORDS), BEFORE) + "=="))
    made[at % len(made)] = byte
    words = {"cursor": base64.urlsafe_b64encode(bytes(made)).decode().rstrip("=")}
    if (code := refused(lambda: resumed("AAPL", words))) is not None:
        assert code in ("invalid_cursor", "cursor_of_another_range")
        return
    chosen, _, _ = resumed("AAPL", words)
    assert 0 <= chosen.window.from_ns < chosen.page.to_ns <= 2**62
    assert chosen.interval in INTERVALS
