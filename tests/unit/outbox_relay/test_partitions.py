"""Which partitions are made and dropped, and the mark that decides the latter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outbox_relay.marks import Mark, mark_of, moment_of, nanoseconds, polled
from outbox_relay.partitions import MARGIN, Partition, partition_of, to_drop, to_make

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOON = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
MIDNIGHT = NOON.replace(hour=0)


def named(start: datetime, end: datetime) -> Partition:
    return Partition(f"outbox_p{start:%Y%m%d%H%M}", start, end)


def test_the_first_ones_begin_after_the_present() -> None:
    made = to_make([], NOON, DAY, 2)
    assert made == [named(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY), named(MIDNIGHT + 2 * DAY, MIDNIGHT + 3 * DAY)]
    assert made[0].name == "outbox_p202603300000"


def test_the_next_ones_begin_where_the_last_one_ends() -> None:
    existing = [named(MIDNIGHT, MIDNIGHT + DAY)]
    assert to_make(existing, NOON, HOUR, 13) == [named(MIDNIGHT + DAY, MIDNIGHT + DAY + HOUR)]
    assert to_make(existing, NOON, HOUR, 12) == []


def test_another_length_goes_on_from_an_odd_end() -> None:
    odd = MIDNIGHT + DAY + 5 * HOUR
    assert to_make([named(MIDNIGHT, odd)], NOON, DAY, 2) == [
        named(odd, MIDNIGHT + 2 * DAY),
        named(MIDNIGHT + 2 * DAY, MIDNIGHT + 3 * DAY),
    ]


@pytest.mark.parametrize("before_midnight", [timedelta(0), timedelta(seconds=1), MARGIN - timedelta(seconds=1)])
def test_a_partition_whose_time_is_near_is_not_made(before_midnight: timedelta) -> None:
    """Its rows may be on their way to the default partition, and would be refused there."""
    for existing in ([], [named(MIDNIGHT - DAY, MIDNIGHT)]):
        assert to_make(existing, MIDNIGHT - before_midnight, DAY, 2)[0].start == MIDNIGHT + DAY


def test_one_is_dropped_when_its_last_row_is_old_enough() -> None:
    first, second = named(MIDNIGHT, MIDNIGHT + DAY), named(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)
    assert to_drop([first, second], MIDNIGHT + DAY) == [first]
    assert to_drop([first, second], MIDNIGHT + DAY - timedelta(microseconds=1)) == []


def test_the_servers_words() -> None:
    bounds = "FOR VALUES FROM ('2026-03-29 00:00:00+00') TO ('2026-03-30 00:00:00+00')"
    assert partition_of("outbox_p202603290000", bounds) == named(MIDNIGHT, MIDNIGHT + DAY)
    assert partition_of("outbox_default", "DEFAULT") is None
    with pytest.raises(ValueError, match="other bounds than two times"):
        partition_of("x", "FOR VALUES FROM (MINVALUE) TO ('2026-03-30 00:00:00+00')")


def test_marks_as_text() -> None:
    assert mark_of(None) == Mark(True, 0)
    for mark in (Mark(True, 5), Mark(False, 7)):
        assert mark_of(mark.text()) == mark
    assert mark_of(polled(9)) == Mark(True, 9), "a slot that comes after polling knows nothing of its time"


def test_moments_are_exact() -> None:
    exact = NOON.replace(microsecond=123_457)
    assert moment_of(nanoseconds(exact)) == exact
    assert moment_of(nanoseconds(exact) + 999) == exact
