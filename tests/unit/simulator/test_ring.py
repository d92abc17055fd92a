"""The feed without sockets: every reader sees every tick once, in order, or is told what it missed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange_gateway.simulator.ring import Reader, Ring
from infra.contracts import Instrument, Quote, Trade

S1, S2, S3 = 1_700_000_000, 1_700_000_100, 1_700_000_200
Seen = list[tuple[int, int]]  # (session, number) of ticks


def opened(ring: Ring, session: int) -> None:
    ring.open(session, [Instrument("AAA", "A Inc.", 10_000, 1, session)], session * 1_000_000_000)


def publish(ring: Ring, count: int) -> None:
    assert ring.current
    first = ring.current.ticks + 1
    session = ring.current.session
    ring.add(
        [
            Trade("AAA", session, n, 0, 100, 1) if n % 2 else Quote("AAA", session, n, 0, 1, 1, 2, 1)
            for n in range(first, first + count)
        ]
    )


def drain(reader: Reader) -> list[dict[str, Any]]:
    frames = []
    while (text := reader.next()) is not None:
        frames.append(msgspec.json.decode(text))
    return frames


def words(frames: list[dict[str, Any]]) -> list[str]:
    """`instruments`, `open S`, `S:1-3` for ticks and `gap S:1-3`, sessions as their place from 1."""
    told = []
    for frame in frames:
        match frame["type"]:
            case "status":
                told.append(f"{frame['status']['kind']} {_place(frame['status']['session'])}")
            case "ticks":
                numbers = [t["q"] for t in frame["ticks"]]
                assert frame["n"] == numbers[-1]
                assert numbers == list(range(numbers[0], numbers[-1] + 1))
                assert {t["d"] for t in frame["ticks"]} == {frame["session"]}
                told.append(f"{_place(frame['session'])}:{numbers[0]}-{numbers[-1]}")
            case "gap":
                told.append(f"gap {_place(frame['session'])}:{frame['from']}-{frame['to']}")
            case other:
                told.append(f"{other} {_place(frame['instruments'][0]['session'])}")
    return told


def _place(session: int) -> int:
    return {S1: 1, S2: 2, S3: 3}[session]


def test_a_client_that_comes_is_told_the_present_and_then_what_follows() -> None:
    ring = Ring(100)
    opened(ring, S1)
    publish(ring, 3)
    reader = Reader(ring, None, None)
    assert words(drain(reader)) == ["instruments 1", "open 1"]
    publish(ring, 2)
    ring.close(0)
    opened(ring, S2)
    assert words(drain(reader)) == ["1:4-5", "close 1", "instruments 2", "open 2"]


def test_a_client_between_two_sessions_is_told_that_the_market_is_closed() -> None:
    ring = Ring(100)
    opened(ring, S1)
    publish(ring, 3)
    ring.close(0)
    assert words(drain(Reader(ring, None, None))) == ["instruments 1", "close 1"]


def test_a_client_before_the_first_session_waits() -> None:
    ring = Ring(100)
    reader = Reader(ring, None, None)
    assert drain(reader) == []
    opened(ring, S1)
    publish(ring, 1)
    assert words(drain(reader)) == ["instruments 1", "open 1", "1:1-1"]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, ["1:1-3", "1:4-6", "close 1"]),
        (2, ["1:3-3", "1:4-6", "close 1"]),
        (3, ["1:4-6", "close 1"]),
        (5, ["1:6-6", "close 1"]),
        (6, ["close 1"]),
    ],
)
def test_resuming_inside_an_ended_session(after: int, expected: list[str]) -> None:
    ring = Ring(100)
    opened(ring, S1)
    publish(ring, 3)
    publish(ring, 3)
    ring.close(0)
    opened(ring, S2)
    publish(ring, 2)
    told = words(drain(Reader(ring, S1, after)))
    assert told[:2] == ["instruments 1", "open 1"]
    rest = [w for w in told[2:] if w not in ("instruments 1", "open 1")]
    assert rest == [*expected, "instruments 2", "open 2", "2:1-2"]


def test_ticks_that_are_no_longer_kept_are_named() -> None:
    ring = Ring(4)
    opened(ring, S1)
    for _ in range(3):
        publish(ring, 2)
    assert words(drain(Reader(ring, S1, 1)))[2:] == ["gap 1:2-2", "1:3-4", "1:5-6"]
    ring.close(0)
    opened(ring, S2)
    publish(ring, 2)
    publish(ring, 2)
    publish(ring, 2)
    told = words(drain(Reader(ring, S1, 5)))
    assert told == ["instruments 2", "open 2", "gap 1:6-6", "gap 2:1-2", "2:3-4", "2:5-6"]


def test_a_reader_that_falls_behind_is_told_what_it_missed() -> None:
    ring = Ring(4)
    opened(ring, S1)
    reader = Reader(ring, None, None)
    drain(reader)
    for _ in range(4):
        publish(ring, 2)
    assert words(drain(reader)) == ["gap 1:1-4", "1:5-6", "1:7-8"]
    ring.close(0)
    opened(ring, S2)
    publish(ring, 5)
    assert words(drain(reader)) == ["instruments 2", "open 2", "2:1-5"]


def test_a_session_that_is_not_known_is_a_gap_without_end() -> None:
    ring = Ring(100)
    opened(ring, S2)
    publish(ring, 3)
    assert words(drain(Reader(ring, S1, 7))) == [
        "instruments 2",
        "open 2",
        "gap 1:8-None",
        "instruments 2",
        "open 2",
        "2:1-3",
    ]
    assert words(drain(Reader(ring, S3, 7))) == ["gap 3:8-None", "instruments 2", "open 2"]
    assert words(drain(Reader(ring, S2, 9))) == ["gap 2:10-None", "instruments 2", "open 2"]


def test_after_alone_means_the_present_session() -> None:
    ring = Ring(100)
    opened(ring, S1)
    publish(ring, 3)
    assert words(drain(Reader(ring, None, 1)))[2:] == ["1:2-3"]
    assert words(drain(Reader(ring, S1, None)))[-1] == "1:1-3"


def test_memory_is_bounded_and_lag_is_known() -> None:
    ring = Ring(10)
    opened(ring, S1)
    reader = Reader(ring, None, None)
    for _ in range(100):
        publish(ring, 2)
    assert ring.next_frame - ring.first_frame <= 6
    assert reader.lag_ticks() == 200
    drain(reader)
    assert reader.lag_ticks() == 0


@pytest.mark.parametrize("first", [0, 1, 5, 17, 18, 30])
@pytest.mark.parametrize("frame", [1, 3, 7])
def test_from_any_place_every_tick_comes_once(first: int, frame: int) -> None:
    ring = Ring(1000)
    for session in (S1, S2):
        opened(ring, session)
        for start in range(0, 18, frame):
            publish(ring, min(frame, 18 - start))
        ring.close(0)
    everything: Seen = [(s, n) for s in (S1, S2) for n in range(1, 19)]
    session, after = everything[first - 1] if first else (S1, 0)
    frames = drain(Reader(ring, session, after))
    seen: Seen = [(f["session"], t["q"]) for f in frames if f["type"] == "ticks" for t in f["ticks"]]
    assert seen == everything[first:]


class TestHalts:
    def told(self, reader: Reader) -> list[str]:
        """As `words`, but every status with its symbol."""
        return [
            f"{f['status']['kind']} {f['status']['symbol']}" if f["type"] == "status" else f["type"]
            for f in drain(reader)
        ]

    def ring(self) -> Ring:
        ring = Ring(100)
        opened(ring, S1)
        publish(ring, 3)
        return ring

    def test_they_come_between_the_ticks_and_whoever_joins_later_is_told_how_it_stands(self) -> None:
        ring = self.ring()
        reader = Reader(ring, None, None)
        ring.status("halt", "AAA", 1)
        publish(ring, 1)
        assert self.told(reader) == ["instruments", "open *", "halt AAA", "ticks"]
        assert self.told(Reader(ring, None, None)) == ["instruments", "open *", "halt AAA"]
        ring.status("resume", "AAA", 2)
        assert self.told(reader) == ["resume AAA"]
        assert self.told(Reader(ring, None, None)) == ["instruments", "open *", "resume AAA"]

    def test_the_next_session_knows_of_none(self) -> None:
        ring = self.ring()
        ring.status("halt", "AAA", 1)
        ring.close(2)
        opened(ring, S2)
        assert self.told(Reader(ring, None, None)) == ["instruments", "open *"]

    def test_one_that_falls_behind_is_told_how_it_stands(self) -> None:
        ring = self.ring()
        reader = Reader(ring, None, None)
        drain(reader)
        ring.status("halt", "AAA", 1)
        for _ in range(40):
            publish(ring, 5)
        told = self.told(reader)
        assert told[:2] == ["gap", "halt AAA"]
        assert set(told[2:]) == {"ticks"}
