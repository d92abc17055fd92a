"""The watch over the event loop."""

from __future__ import annotations

from infra.clock import ManualClock
from infra.stalls import STALL_S, StallWatch
from infra.telemetry import LOOP_STALLS


def test_what_comes_later_than_the_limit_is_counted() -> None:
    watch = StallWatch(ManualClock())
    before = LOOP_STALLS._value.get()
    watch.woke(STALL_S)
    assert LOOP_STALLS._value.get() == before
    watch.woke(STALL_S + 0.001)
    watch.woke(10)
    assert LOOP_STALLS._value.get() == before + 2
