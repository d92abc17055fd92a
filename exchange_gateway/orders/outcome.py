"""What became of a request to the venue: one pure decision from how far it came, the status and the body.

The question is never "did it fail?" but "may the venue have it?". Only a request that provably never left may be sent
again blindly; only a readable answer in the venue's own words proves anything else. A 4xx or 5xx page of something in
between (RFC 9110 §15.5, §15.6) proves nothing about the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import msgspec

from exchange_gateway.venue import VenueOrder, VenueReport
from infra.contracts import Malformed, Reason, decode

Outcome = Literal["accepted", "refused", "duplicate", "not_found", "unknown", "not_sent"]


class Reach(Enum):
    """How far a request provably came."""

    NOT_SENT = "not_sent"  # no byte of it can have reached the venue
    MAYBE_SENT = "maybe_sent"  # it may have, and no answer came back
    ANSWERED = "answered"  # a whole HTTP answer came back


@dataclass(frozen=True, slots=True)
class Answer:
    """What the venue's side of one request is known to be.

    accepted: answered with reports (a business refusal is a report too) · refused: provably not recorded ·
    duplicate: the ClOrdID is already there · not_found: the venue knows no such order · unknown: ask ·
    not_sent: safe to send again.
    """

    outcome: Outcome
    reports: tuple[VenueReport, ...] = ()
    reason: Reason | None = None
    order: VenueOrder | None = None


class _Body(msgspec.Struct, frozen=True):
    reports: list[VenueReport]
    order: VenueOrder | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: Reason


# Statuses at which the venue has looked at nothing but the envelope: our key is wrong, or we are too fast.
_NOT_LOOKED_AT = {401, 403, 429}


def decide(reach: Reach, status: int = 0, body: bytes = b"", text: str = "") -> Answer:
    """`text` says what went wrong on the way, for people."""
    if reach is Reach.NOT_SENT:
        return Answer("not_sent", reason=Reason("venue_unreachable", text))
    if reach is Reach.MAYBE_SENT:
        return Answer("unknown", reason=Reason("no_answer", text))
    if status in _NOT_LOOKED_AT:
        return Answer("not_sent", reason=Reason(f"http_{status}", _readable(body)))
    if 200 <= status < 300:
        return _success(body)
    return _refusal(status, body)


def _success(body: bytes) -> Answer:
    try:
        found: _Body = decode(_Body, body)
    except Malformed as error:
        return Answer("unknown", reason=Reason("unreadable_answer", str(error)))
    if not found.reports:
        return Answer("unknown", reason=Reason("unreadable_answer", "the answer holds no report"))
    return Answer("accepted", tuple(found.reports), order=found.order)


def _refusal(status: int, body: bytes) -> Answer:
    try:
        reason: Reason = decode(_ErrorBody, body).error
    except Malformed:
        return Answer("unknown", reason=Reason(f"http_{status}", _readable(body)))
    if status == 409 and reason.code == "duplicate_cl_ord_id":
        return Answer("duplicate", reason=reason)
    if status == 404 and reason.code == "unknown_order":
        return Answer("not_found", reason=reason)
    if status == 413 or (status == 400 and reason.code == "malformed"):
        return Answer("refused", reason=reason)
    if status == 503 and reason.code == "unavailable":
        return Answer("not_sent", reason=reason)
    return Answer("unknown", reason=reason)


def _readable(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
