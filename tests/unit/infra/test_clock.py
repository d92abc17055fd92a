"""Time and ids: exact, rising, repeatable."""

from __future__ import annotations

from uuid import RFC_4122

from infra.clock import NS_PER_MS, NS_PER_S, Ids, ManualClock, SystemClock


def test_the_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(5 * NS_PER_S)
    before = clock.monotonic_s()
    clock.advance(0.25)
    assert (clock.now_ns(), clock.monotonic_s() - before) == (5_250_000_000, 0.25)


def test_the_system_clock_is_in_nanoseconds_and_never_goes_back() -> None:
    clock = SystemClock()
    assert 1_600_000_000 < clock.now_ns() / NS_PER_S < 5_000_000_000
    seen = [clock.monotonic_s() for _ in range(100)]
    assert seen == sorted(seen)


def test_the_layout_of_an_id() -> None:
    clock = ManualClock(1_645_557_742_000 * NS_PER_MS)
    made = Ids(clock, seed=1).uuid7()
    assert made.int >> 80 == 1_645_557_742_000  # RFC 9562, appendix A.6: 017F22E2-79B0-7…
    assert str(made).startswith("017f22e2-79b0-7")
    assert (made.version, made.variant) == (7, RFC_4122)


def test_ids_rise_strictly_even_when_the_counter_overflows_or_the_clock_goes_back() -> None:
    clock = ManualClock()
    ids = Ids(clock, seed=1)
    made = [ids.uuid7() for _ in range(10_000)]
    clock.advance(-3600)
    made += [ids.uuid7() for _ in range(100)]
    assert made == sorted(set(made))
    assert all(one.version == 7 and one.variant == RFC_4122 for one in made)


def test_a_seed_repeats_the_ids() -> None:
    first, second, other = (Ids(ManualClock(), seed) for seed in (7, 7, 8))
    assert [first.uuid7() for _ in range(50)] == [second.uuid7() for _ in range(50)]
    assert first.uuid7() != other.uuid7()
