"""Which misbehaviour applies to which event: decided by the rules, the seed and the clock alone."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from exchange_gateway.simulator.chaos import (
    POINTS,
    RULES_MAX,
    Chaos,
    Operation,
    Rule,
    ScenarioError,
    rules_of,
    scenario,
)
from infra.clock import ManualClock

SYMBOLS = ("AAA",)


def chaos(*rules: Rule, seed: int = 1, clock: ManualClock | None = None) -> Chaos:
    return Chaos(Random(seed), clock or ManualClock(), rules)


def struck(made: Chaos, events: int, on: Operation = "submit") -> list[int]:
    """The numbers of the events at which something happens."""
    return [n for n in range(1, events + 1) if made.ask("request", on, SYMBOLS)]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"every": 3}, [3, 6, 9]),
        ({"count": 2}, [1, 2]),
        ({"every": 2, "count": 2}, [2, 4]),
        ({"from_event": 4, "to_event": 6}, [4, 5, 6]),
        ({"from_event": 3, "every": 2}, [4, 6, 8]),
        ({"from_event": 7, "count": 1}, [7]),
        ({"symbol": "AAA"}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"symbol": "BBB"}, []),
        ({"on": ("cancel", "submit")}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"on": ("cancel",)}, []),
        ({"from_s": 1}, []),
    ],
)
def test_when_a_rule_applies(limits: dict[str, Any], expected: list[int]) -> None:
    assert struck(chaos(Rule(kind="lost_response", **limits)), 9) == expected


def test_chance_is_the_seed_s() -> None:
    rule = Rule(kind="lost_response", probability=0.3)
    once, again, other = (struck(chaos(rule, seed=seed), 2000) for seed in (5, 5, 6))
    assert once == again
    assert once != other
    assert 500 < len(once) < 700


def test_times_count_from_when_the_rule_was_given() -> None:
    clock = ManualClock()
    made = chaos(clock=clock)
    clock.advance(100)
    made.add([Rule(kind="lost_response", from_s=2, to_s=3)])
    found = []
    for second in range(6):
        if made.ask("request", "submit", SYMBOLS):
            found.append(second)
        clock.advance(1)
    assert found == [2, 3]


def test_the_first_rule_has_the_event_and_all_count_it() -> None:
    made = chaos(Rule(kind="lost_response", every=2), Rule(kind="garbage_body", every=3))
    kinds = [rule and rule.kind for rule in (made.ask("request", "submit", SYMBOLS) for _ in range(6))]
    assert kinds == [None, "lost_response", "garbage_body", "lost_response", None, "lost_response"]
    assert [(s["seen"], s["applied"]) for s in made.shown()] == [(6, 3), (6, 1)]


def test_queries_are_struck_only_when_they_are_named() -> None:
    assert struck(chaos(Rule(kind="lost_response")), 3, on="query") == []
    assert struck(chaos(Rule(kind="lost_response", on=("query",))), 3, on="query") == [1, 2, 3]


def test_each_point_has_its_own_rules() -> None:
    made = chaos(Rule(kind="missing_webhook"), Rule(kind="bust"), Rule(kind="drop_copy_disconnect"))
    assert made.ask("request", "submit", SYMBOLS) is None
    found = [made.ask(point, symbols=SYMBOLS) for point in ("report", "fill", "frame")]
    assert [rule and rule.kind for rule in found] == ["missing_webhook", "bust", "drop_copy_disconnect"]


def test_cleared_nothing_happens() -> None:
    made = chaos(Rule(kind="lost_response"))
    made.clear()
    assert struck(made, 3) == []
    assert made.shown() == []


@pytest.mark.parametrize("kind", POINTS)
def test_every_kind_can_be_written_as_json(kind: str) -> None:
    (rule,) = rules_of(msgspec.json.encode({"rules": [{"kind": kind, "probability": 0.5, "count": 3}]}))
    assert (rule.kind, rule.probability, rule.count) == (kind, 0.5, 3)
    assert msgspec.json.decode(msgspec.json.encode(rule)) == {"kind": kind, "probability": 0.5, "count": 3}


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"kind": "other"}, "kind"),
        ({"kind": "bust", "probability": 0}, "probability"),
        ({"kind": "bust", "probability": 1.1}, "probability"),
        ({"kind": "bust", "probability": 0.5, "every": 2}, "exclude each other"),
        ({"kind": "bust", "every": 0}, "every"),
        ({"kind": "bust", "count": 0}, "count"),
        ({"kind": "bust", "delay_s": 4000}, "delay_s"),
        ({"kind": "bust", "on": ["submit"]}, "about no request"),
        ({"kind": "delayed_acceptance", "on": ["query"]}, "query"),
        ({"kind": "lost_response", "on": []}, "on"),
        ({"kind": "server_error_after", "status": 200}, "status"),
        ({"kind": "bust", "symbol": ""}, "symbol"),
        ({"kind": "bust", "propability": 0.5}, "propability"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_place(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ScenarioError, match=why):
        rules_of(msgspec.json.encode({"rules": [rule]}))


def test_rules_are_bounded() -> None:
    with pytest.raises(ScenarioError, match="length"):
        rules_of(msgspec.json.encode({"rules": [{"kind": "bust"}] * (RULES_MAX + 1)}))
    with pytest.raises(ScenarioError, match="bytes"):
        rules_of(b" " * 70_000)
    made = chaos(*[Rule(kind="bust")] * RULES_MAX)
    with pytest.raises(ScenarioError, match="at most"):
        made.add([Rule(kind="bust")])


def test_a_scenario_is_a_file_of_rules(tmp_path: Path) -> None:
    path = tmp_path / "storm.json"
    path.write_bytes(b'{"rules":[{"kind":"slow_drip","delay_s":0.5,"count":1}]}')
    assert scenario(str(path)) == [Rule(kind="slow_drip", delay_s=0.5, count=1)]
    assert scenario("") == []
    path.write_bytes(b'{"rules":')
    with pytest.raises(ScenarioError, match=r"storm\.json"):
        scenario(str(path))
    with pytest.raises(ScenarioError, match=r"none\.json"):
        scenario(str(tmp_path / "none.json"))
