"""Misbehaviour on command: rules, and the pure decision which of them applies to an event. Seeded, so a run repeats.

A rule names a kind and how often it strikes; everybody who could misbehave asks here first, at one of these points.
What a misbehaviour does is the asker's business.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, get_args

import msgspec

from infra.clock import Clock

RULES_MAX = 100
SCENARIO_BYTES_MAX = 64 * 1024

# What becomes of one request's answer.
RequestKind = Literal[
    "lost_response",  # recorded; the connection is closed without an answer
    "delayed_acceptance",  # no answer, and recorded only after `delay_s`
    "server_error_before",  # `status` with a page that is no JSON, nothing recorded
    "server_error_after",  # the same, recorded
    "too_many_requests",  # 429 with Retry-After `retry_after_s`, nothing recorded
    "slow_drip",  # recorded; the answer comes byte by byte, `delay_s` between two
    "truncated_body",  # recorded; fewer bytes than Content-Length says
    "garbage_body",  # recorded; 200 with bytes that are no JSON
    "reset_mid_body",  # recorded; the connection is reset in the middle of the answer
]
# What happens to the venue when a request comes.
ActKind = Literal[
    "halted_symbol",  # its symbol is halted for `delay_s`, this request included
    "stray_fill",  # a fill for an order that was never sent, after `delay_s`
    "disconnect",  # all sockets and webhooks on their way are cut
    "restart_without_memory",  # orders, reports and journal are forgotten; this request has no answer
]
# What becomes of a fill, `delay_s` after it.
FillKind = Literal["bust", "correct", "overfill"]  # overfill: `quantity` more than was ordered
# What becomes of a report's webhook.
ReportKind = Literal[
    "duplicate_report",
    "reordered_reports",  # it comes after its order's next one, or after `delay_s`
    "missing_webhook",
]
TradeKind = Literal["wrong_quantity"]  # a second webhook with the same ExecID and `quantity` more
# What becomes of a frame of the drop copy; the numbers that are stored stay whole.
FrameKind = Literal["missing_frame", "drop_copy_disconnect"]
# What becomes of a tick of the market data feed; a re-send has the truth.
TickKind = Literal[
    "missing_tick",
    "duplicate_tick",
    "reordered_ticks",  # it comes after its symbol's next one
]

Kind = RequestKind | ActKind | FillKind | ReportKind | TradeKind | FrameKind | TickKind
Point = Literal["request", "act", "fill", "report", "trade", "frame", "tick"]
Operation = Literal["submit", "batch", "cancel", "replace", "query"]

_KINDS: dict[Point, tuple[str, ...]] = {
    "request": get_args(RequestKind),
    "act": get_args(ActKind),
    "fill": get_args(FillKind),
    "report": get_args(ReportKind),
    "trade": get_args(TradeKind),
    "frame": get_args(FrameKind),
    "tick": get_args(TickKind),
}
POINTS: dict[str, Point] = {kind: point for point, kinds in _KINDS.items() for kind in kinds}
_ON: dict[Point, tuple[Operation, ...]] = {
    "request": ("submit", "batch", "cancel", "replace"),
    "act": ("submit", "batch"),
}
_DELAYS_S = {"slow_drip": 0.02, "bust": 0.0, "correct": 0.0, "overfill": 0.0, "stray_fill": 0.0}
_DELAY_S = 1.0

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class ScenarioError(Exception):
    """The rules cannot be used; the text says where and why."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One misbehaviour and when: by chance (`probability`), each `every`-th event, or each one; at most `count` times.

    Events are those at the kind's point that fit `symbol` and `on`. They are numbered from 1; times are seconds since
    the rule was given. `to_event` and `to_s` are the last ones.
    """

    kind: Kind
    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    every: Count | None = None
    count: Count | None = None
    symbol: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    on: Annotated[tuple[Operation, ...], msgspec.Meta(min_length=1, max_length=5)] | None = None
    from_event: Count = 1
    to_event: Count | None = None
    from_s: Seconds = 0.0
    to_s: Seconds | None = None
    delay_s: Seconds | None = None
    status: Literal[500, 502, 503] = 503
    retry_after_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 1
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1

    def __post_init__(self) -> None:
        if self.probability is not None and self.every is not None:
            raise ValueError("probability and every exclude each other")
        if self.on is not None and self.point not in _ON:
            raise ValueError(f"on says which requests; {self.kind} is about no request")
        if self.on is not None and "query" in self.on and self.kind == "delayed_acceptance":
            raise ValueError("a query is not accepted, so it cannot be accepted late")

    @property
    def point(self) -> Point:
        return POINTS[self.kind]

    @property
    def delay(self) -> float:
        """Seconds; what it is the time of depends on the kind."""
        return _DELAYS_S.get(self.kind, _DELAY_S) if self.delay_s is None else self.delay_s

    def fits(self, on: Operation | None, symbols: Collection[str]) -> bool:
        if on is not None and on not in (self.on or _ON[self.point]):
            return False
        return self.symbol is None or self.symbol in symbols


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /chaos`, and a scenario file."""

    rules: Annotated[list[Rule], msgspec.Meta(max_length=RULES_MAX)]


@dataclass(slots=True)
class _Standing:
    """A rule in force: since when, how many events it saw and how often it applied."""

    rule: Rule
    since_s: float
    seen: int = 0
    applied: int = 0

    def strikes(self, now_s: float, random: Random) -> bool:
        """Count one more event that fits; whether the rule wants it."""
        self.seen += 1
        rule, at_s = self.rule, now_s - self.since_s
        if rule.count is not None and self.applied >= rule.count:
            return False
        if self.seen < rule.from_event or (rule.to_event is not None and self.seen > rule.to_event):
            return False
        if at_s < rule.from_s or (rule.to_s is not None and at_s > rule.to_s):
            return False
        if rule.probability is not None:
            return random.random() < rule.probability
        return rule.every is None or (self.seen - rule.from_event + 1) % rule.every == 0


class Chaos:
    """The rules in force. `random` also serves those who carry a misbehaviour out, so that one seed decides all."""

    def __init__(self, random: Random, clock: Clock, rules: Sequence[Rule] = ()) -> None:
        self.random = random
        self._clock = clock
        self._standing: dict[Point, list[_Standing]] = {}
        self.add(rules)

    def add(self, rules: Sequence[Rule]) -> None:
        """Put rules in force beside the others. Raises ScenarioError when there are too many."""
        if sum(map(len, self._standing.values())) + len(rules) > RULES_MAX:
            raise ScenarioError(f"at most {RULES_MAX} rules can be in force")
        for rule in rules:
            self._standing.setdefault(rule.point, []).append(_Standing(rule, self._clock.monotonic_s()))

    def clear(self) -> None:
        self._standing = {}

    def watches(self, point: Point) -> bool:
        """Whether any rule is about this point: asked before work that only a rule would make necessary."""
        return point in self._standing

    def ask(self, point: Point, on: Operation | None = None, symbols: Collection[str] = ()) -> Rule | None:
        """The rule that applies to this event, if any. Every rule that fits counts the event; of several that want it,
        the first has it."""
        if point not in self._standing:
            return None
        chosen: _Standing | None = None
        now_s = self._clock.monotonic_s()
        for standing in self._standing[point]:
            if standing.rule.fits(on, symbols) and standing.strikes(now_s, self.random):
                chosen = chosen or standing
        if chosen is None:
            return None
        chosen.applied += 1
        return chosen.rule

    def shown(self) -> list[dict[str, Any]]:
        """For people: each rule, the events that it saw, and how often it applied."""
        standing = [each for point in _KINDS for each in self._standing.get(point, [])]
        return [{"rule": each.rule, "seen": each.seen, "applied": each.applied} for each in standing]


def rules_of(content: bytes) -> list[Rule]:
    """Raises ScenarioError."""
    if len(content) > SCENARIO_BYTES_MAX:
        raise ScenarioError(f"at most {SCENARIO_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(content, type=Rules).rules
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(str(error)) from error


def scenario(path: str) -> list[Rule]:
    """The rules of a scenario file; none without a path. Raises ScenarioError."""
    if not path:
        return []
    try:
        return rules_of(Path(path).read_bytes())
    except (OSError, ScenarioError) as error:
        raise ScenarioError(f"scenario {path}: {error}") from error
