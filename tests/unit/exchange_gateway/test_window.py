"""Which offsets may be started, committed, and have been sent before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange_gateway.orders.window import Window

ASSIGNED_MS = 1000


def window(size: int, offsets: range) -> Window[int]:
    made: Window[int] = Window(size, ASSIGNED_MS)
    for offset in offsets:
        made.take(offset, offset)
    return made


def test_only_the_contiguous_prefix_is_committed() -> None:
    made = window(10, range(5, 9))
    assert made.ready() == [5, 6, 7, 8]
    made.done(6)
    made.done(8)
    assert (made.to_commit(), made.held) == (None, 4)
    made.done(5)
    assert (made.to_commit(), made.held) == (7, 2)
    made.committed(7)
    assert made.to_commit() is None
    made.done(7)
    assert (made.to_commit(), made.held) == (9, 0)


def test_no_more_than_its_size_past_the_committed_offset_is_started() -> None:
    made = window(2, range(5, 10))
    assert (made.ready(), made.ready(), made.is_full) == ([5, 6], [], True)
    made.done(5)
    assert made.ready() == [], "done is not committed"
    made.committed(6)
    assert made.ready() == [7]


def test_what_was_there_before_the_assignment_and_is_near_may_have_been_sent() -> None:
    made = window(2, range(5, 9))
    assert [made.maybe_sent(offset, ASSIGNED_MS) for offset in (5, 6, 7)] == [True, True, False]
    assert not made.maybe_sent(5, ASSIGNED_MS + 1)


@given(st.integers(1, 6), st.permutations(range(12)))
def test_whatever_the_order_everything_is_committed_once_and_never_too_far(size: int, order: list[int]) -> None:
    made = window(size, range(12))
    committed, started, done = 0, set(made.ready()), set[int]()
    while done != set(range(12)):
        offset = next(offset for offset in order if offset in started - done)
        made.done(offset)
        done.add(offset)
        if (to := made.to_commit()) is not None:
            assert to > committed
            assert done >= set(range(to))
            committed = to
            made.committed(to)
            started |= set(made.ready())
        assert max(started) < committed + size
    assert committed == 12
