"""Ticks on request: exactly the bytes of the feed, as far back as the ring goes, and what is gone is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange_gateway.simulator.ring import Ring
from infra.contracts import Instrument, Quote, Tick, Trade, encode

SESSION = 1_700_000_000
SYMBOLS = ("AAA", "B", 'O"D')


class Told:
    """A ring and everything that was ever put into it."""

    def __init__(self, ticks_max: int) -> None:
        self.ring = Ring(ticks_max)
        self.all: dict[tuple[str, int, int], Tick] = {}
        self.session = 0
        self.numbers: dict[str, int] = {}

    def open(self) -> None:
        self.session = SESSION + len(self.ring.sessions)
        self.numbers = {}
        self.ring.open(self.session, [Instrument(s, s, 10_000, 1, self.session) for s in SYMBOLS], 0)

    def frame(self, *symbols: str) -> None:
        ticks: list[Tick] = []
        for symbol in symbols:
            q = self.numbers[symbol] = self.numbers.get(symbol, 0) + 1
            made = Trade(symbol, self.session, q, q, 100, 1) if q % 3 else Quote(symbol, self.session, q, q, 1, 1, 2, 1)
            ticks.append(made)
            self.all[symbol, self.session, q] = made
        self.ring.add(ticks)

    def kept(self) -> set[tuple[str, int, int]]:
        """By a walk through the frames."""
        found = set()
        for number in range(self.ring.first_frame, self.ring.next_frame):
            whole = self.ring.frame(number).whole
            found |= {key for key, tick in self.all.items() if encode(tick).decode() in whole}
        return found


def test_a_range_comes_in_the_bytes_of_the_feed() -> None:
    told = Told(100)
    told.open()
    told.frame("AAA", "B", "AAA")
    told.frame("B")
    told.frame("AAA", 'O"D', "AAA", "AAA")
    found = told.ring.resend(SESSION, "AAA", 2, 4)
    assert found.ticks == [encode(told.all["AAA", SESSION, q]).decode() for q in (2, 3, 4)]
    assert found.missing == []
    assert told.ring.resend(SESSION, 'O"D', 1, 1).ticks == [encode(told.all['O"D', SESSION, 1]).decode()]


def test_what_is_gone_or_never_was_is_said_in_ranges() -> None:
    told = Told(3)
    told.open()
    for _ in range(4):
        told.frame("AAA", "B")
    kept = sorted(q for symbol, _, q in told.kept() if symbol == "AAA")
    found = told.ring.resend(SESSION, "AAA", 1, 9)
    assert found.missing == [(1, kept[0] - 1), (5, 9)]
    assert len(found.ticks) == len(kept)
    assert told.ring.resend(SESSION + 9, "AAA", 1, 9).missing == [(1, 9)]
    assert told.ring.resend(SESSION, "ZZZ", 1, 9).missing == [(1, 9)]


def test_the_newest_of_each_kind_is_of_the_last_session_and_outlives_its_frame() -> None:
    told = Told(2)
    assert told.ring.newest("AAA") == []
    told.open()
    told.frame("AAA", "AAA", "AAA", "AAA")  # trades 1, 2 and 4, quote 3
    told.frame("B", "B", "B")
    assert told.ring.newest("AAA") == [told.all["AAA", SESSION, q] for q in (3, 4)]
    told.ring.close(0)
    told.open()
    assert told.ring.newest("AAA") == [told.all["AAA", SESSION, q] for q in (3, 4)]
    told.frame("AAA")
    assert told.ring.newest("AAA") == [told.all["AAA", SESSION + 1, 1]], "nothing of the session before beside it"


@given(
    st.lists(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=6) | st.none(), max_size=30),
    st.integers(1, 20),
    st.sampled_from(SYMBOLS),
    st.integers(1, 12),
    st.integers(0, 12),
)
def test_it_finds_what_a_walk_through_the_frames_finds(
    frames: list[list[str] | None], ticks_max: int, symbol: str, first: int, more: int
) -> None:
    told = Told(ticks_max)
    told.open()
    for frame in frames:
        if frame is None:
            told.ring.close(0)
            told.open()
        else:
            told.frame(*frame)
    ring = told.ring
    frames_kept = [ring.frame(number) for number in range(ring.first_frame, ring.next_frame)]
    entries = sum(len(places) for places in ring._kept._places.values())
    assert entries == sum(len(frame.firsts) for frame in frames_kept), "the index goes with its frames"
    kept = told.kept()
    for session in told.ring.sessions:
        found = told.ring.resend(session, symbol, first, first + more)
        asked = range(first, first + more + 1)
        expected = [q for q in asked if (symbol, session, q) in kept]
        assert found.ticks == [encode(told.all[symbol, session, q]).decode() for q in expected]
        gone = [q for low, high in found.missing for q in range(low, high + 1)]
        assert gone == [q for q in asked if (symbol, session, q) not in kept]
