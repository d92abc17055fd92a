"""A request of which it is not known whether the exchange has it: what was asked about it, and what came back. Pure.

It is kept in the details of the order's reason, so that whoever reads the order sees it too. Times are microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from order_service.domain.lifecycle import ENDS
from order_service.domain.order import Order, Outcome, Why

FIRST_S = 2.0
MOST_S = 60.0
# How many "not found" in a row are worth believing.
MISSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """`request` is its number. `sent_us`: no sending of it ended later, as far as was heard. `missed_us`: when the
    exchange last said that it has none of it, the newest two. `sends` counts the sendings, `asks` the questions since
    its last word."""

    request: int
    sent_us: int
    missed_us: tuple[int, ...] = ()
    sends: int = 1
    asks: int = 0

    def sending_ended(self, at_us: int) -> Doubt:
        """Heard again after a crash it is the same end; a later one makes every earlier answer worthless."""
        if at_us <= self.sent_us:
            return self
        return replace(self, sent_us=at_us, missed_us=(), asks=0)

    def missed(self, at_us: int) -> Doubt:
        """The exchange was asked and has none of it. The same answer heard again counts once."""
        if self.missed_us and at_us <= self.missed_us[-1]:
            return self
        return replace(self, missed_us=(*self.missed_us, at_us)[-MISSES:], asks=0)

    def asked(self) -> Doubt:
        return replace(self, asks=self.asks + 1)

    def sent_again(self, at_us: int) -> Doubt:
        return Doubt(request=self.request, sent_us=max(at_us, self.sent_us), sends=self.sends + 1)

    def gone(self, settle_us: int) -> bool:
        """Is "not found" to be believed? Only when said repeatedly, each time long enough after the last sending."""
        return len(self.missed_us) == MISSES and self.missed_us[0] >= self.sent_us + settle_us

    def why(self, code: str, text: str) -> Why:
        details = {
            "request": self.request,
            "sends": self.sends,
            "asks": self.asks,
            "sentUs": self.sent_us,
            "notFoundUs": list(self.missed_us),
        }
        return Why(code, text, details)


@dataclass(frozen=True, slots=True)
class Patience:
    """`settle_us`: how long after a sending the exchange's "not found" means nothing, the slowest answer included;
    `sends_max`: how often a request is sent at most, the first time included."""

    settle_us: int
    sends_max: int


def doubted(order: Order) -> bool:
    """Is something of the order to be chased: its submit, or a cancel or replace that nobody answers? A fill answers
    neither of those: it may be busted, or the quantity replaced."""
    return order.standing not in ENDS and (order.outcome is Outcome.UNKNOWN or order.pending is not None)


def request_in_doubt(order: Order) -> int:
    """Its number: the submit's as long as it is unknown, else the pending one's."""
    return 1 if order.outcome is Outcome.UNKNOWN or order.pending is None else order.requests


def doubt_of(order: Order) -> Doubt | None:
    """None when nothing is noted of the request in doubt: the chase begins anew."""
    if not doubted(order) or order.reason is None or not is_note(order.reason):
        return None
    details = order.reason.details or {}
    if details["request"] != request_in_doubt(order):
        return None
    return Doubt(
        request=details["request"],
        sent_us=details["sentUs"],
        missed_us=tuple(details["notFoundUs"]),
        sends=details["sends"],
        asks=details["asks"],
    )


def is_note(reason: Why | None) -> bool:
    """Is this reason a doubt's, which means nothing once the doubt is gone?"""
    return reason is not None and reason.details is not None and "sentUs" in reason.details


def next_attempt_us(now_us: int, asks: int, random: Random) -> int:
    """When to look again: full jitter under a ceiling that doubles with each question the exchange leaves open."""
    ceiling_s = min(MOST_S, FIRST_S * 2.0 ** min(asks, 30))
    return now_us + round(random.uniform(0.0, ceiling_s) * 1_000_000)
