"""What misbehaviour makes of ticks, on the feed and not in what is sent again."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from exchange_gateway.simulator.chaos import Chaos, Rule
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.ring import Reader, Ring
from infra.clock import ManualClock
from infra.contracts import Instrument, Trade

SESSION = 1_700_000_000
LISTED = [Instrument(s, s, 10_000, 1, SESSION) for s in ("AAA", "BBB")]


def feed(*rules: Rule, seed: int = 1) -> Feed:
    made = Feed(Ring(1000), 1000, Chaos(Random(seed), ManualClock(), rules))
    made.open(SESSION, LISTED, 0)
    return made


def publish(venue: Feed, *ticks: str) -> None:
    """Each is a symbol and its number: `AAA1`."""
    session = venue.session
    venue.publish([Trade(text[:3], session, int(text[3:]), 0, 100, 1) for text in ticks])


def drain(reader: Reader) -> list[tuple[int, list[str]]]:
    """(n, ticks) of the frames of ticks."""
    found: list[tuple[int, list[str]]] = []
    while (text := reader.next()) is not None:
        frame: dict[str, Any] = json.loads(text)
        if frame["type"] == "ticks":
            found.append((frame["n"], [f"{tick['s']}{tick['q']}" for tick in frame["ticks"]]))
    return found


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(kind="missing_tick", every=3), [(4, ["AAA1", "BBB1", "BBB2"]), (6, ["AAA3"])]),
        (Rule(kind="missing_tick", symbol="BBB"), [(4, ["AAA1", "AAA2"]), (6, ["AAA3"])]),
        (
            Rule(kind="duplicate_tick", count=1),
            [(4, ["AAA1", "AAA1", "BBB1", "AAA2", "BBB2"]), (6, ["AAA3", "BBB3"])],
        ),
        (Rule(kind="reordered_ticks", count=1), [(4, ["BBB1", "AAA2", "AAA1", "BBB2"]), (6, ["AAA3", "BBB3"])]),
        (
            Rule(kind="reordered_ticks", symbol="AAA", from_event=2, to_event=2),
            [(4, ["AAA1", "BBB1", "BBB2"]), (6, ["AAA3", "AAA2", "BBB3"])],
        ),
        (Rule(kind="reordered_ticks", symbol="AAA"), [(4, ["BBB1", "AAA2", "AAA1", "BBB2"]), (6, ["BBB3"])]),
    ],
    ids=lambda value: value.kind if isinstance(value, Rule) else "",
)
def test_what_readers_see(rule: Rule, expected: list[tuple[int, list[str]]]) -> None:
    venue = feed(rule)
    reader = venue.join(None, 0)
    publish(venue, "AAA1", "BBB1", "AAA2", "BBB2")
    publish(venue, "AAA3", "BBB3")
    assert drain(reader) == expected
    assert drain(venue.join(SESSION, 0)) == expected, "whoever asks again sees the same"
    for symbol in ("AAA", "BBB"):
        again = venue.resend(SESSION, symbol, 1, 3)
        assert ([json.loads(tick)["q"] for tick in again.ticks], again.missing) == ([1, 2, 3], [])


def test_a_reader_that_resumes_within_a_struck_frame_gets_its_rest_whole() -> None:
    venue = feed(Rule(kind="missing_tick", every=2))
    publish(venue, "AAA1", "AAA2", "AAA3", "AAA4")
    assert drain(venue.join(SESSION, 1)) == [(4, ["AAA2", "AAA3", "AAA4"])]


def test_what_was_held_back_at_the_end_of_a_session_never_comes() -> None:
    venue = feed(Rule(kind="reordered_ticks", symbol="AAA", count=1))
    publish(venue, "AAA1", "BBB1")
    venue.close(0)
    venue.open(SESSION + 1, LISTED, 0)
    publish(venue, "AAA1")
    assert drain(venue.join(SESSION, 0)) == [(2, ["BBB1"]), (1, ["AAA1"])]


def test_the_seed_decides() -> None:
    def run(seed: int) -> list[tuple[int, list[str]]]:
        venue = feed(Rule(kind="missing_tick", probability=0.3), seed=seed)
        for q in range(1, 50):
            publish(venue, f"AAA{q}")
        return drain(venue.join(SESSION, 0))

    assert run(1) == run(1) != run(2)


def test_without_rules_nothing_is_asked_of_chance() -> None:
    random = Random(1)
    venue = Feed(Ring(1000), 1000, Chaos(random, ManualClock()))
    venue.open(SESSION, LISTED, 0)
    before = random.getstate()
    publish(venue, "AAA1", "AAA2")
    assert drain(venue.join(SESSION, 0)) == [(2, ["AAA1", "AAA2"])]
    assert random.getstate() == before
