"""What became of a request to the venue: one pure decision from how far it came, the status and the body.

The question is never "did it fail?" but "may the venue have it?". Only a request that provably never left may be sent
again blindly; only a readable answer in the venue's own words proves anything else. A 4xx or 5xx page of something in
between (RFC 9110 §15.5, §15.6) proves nothing about the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Literal

import msgspec

from exchange_gateway.venue import VenueOrder, VenueReport
from infra.contracts import Malformed, Reason, decode

Outcome = Literal["accepted", "refused", "duplicate", "not_found", "unknown", "not_sent"]
NO_ANSWER = "no_answer"


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
    not_sent: safe to send again, after `retry_after_s` where the venue asked for a pause.
    """

    outcome: Outcome
    reports: tuple[VenueReport, ...] = ()
    reason: Reason | None = None
    order: VenueOrder | None = None
    retry_after_s: float | None = None

    @property
    def heard(self) -> bool:
        """Is the venue there, and does it take requests?"""
        silent = self.reason is not None and self.reason.code == NO_ANSWER
        return self.outcome != "not_sent" and not silent


# Of a request that was not even tried, because the breaker is open.
HELD_BACK = Answer("not_sent", reason=Reason("held_back", "the circuit breaker is open"))


class _Body(msgspec.Struct, frozen=True):
    reports: list[VenueReport]
    order: VenueOrder | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: Reason


class _BatchBody(msgspec.Struct, frozen=True):
    results: list[msgspec.Raw]


class _Result(msgspec.Struct, frozen=True):
    status: int


# Statuses at which the venue has looked at nothing but the envelope: our key is wrong, or we are too fast.
_NOT_LOOKED_AT = {401, 403, 429}


def decide(
    reach: Reach, status: int = 0, body: bytes = b"", text: str = "", retry_after_s: float | None = None
) -> Answer:
    """`text` says what went wrong on the way, for people."""
    if reach is Reach.NOT_SENT:
        return Answer("not_sent", reason=Reason("venue_unreachable", text))
    if reach is Reach.MAYBE_SENT:
        return Answer("unknown", reason=Reason(NO_ANSWER, text))
    if status in _NOT_LOOKED_AT:
        return Answer("not_sent", reason=Reason(f"http_{status}", _readable(body)), retry_after_s=retry_after_s)
    if 200 <= status < 300:
        return _success(body)
    return _refusal(status, body, retry_after_s)


def decide_batch(orders: int, status: int, body: bytes, retry_after_s: float | None = None) -> list[Answer] | None:
    """What an answered batch says of each of its orders; None when the venue refused the batch as such, so that none of
    them was recorded and each can be sent alone."""
    if not 200 <= status < 300:
        whole = decide(Reach.ANSWERED, status, body, retry_after_s=retry_after_s)
        if whole.outcome == "refused":
            return None
        if whole.outcome not in ("not_sent", "unknown"):  # a word about one order: this was about many
            whole = Answer("unknown", reason=whole.reason)
        return [whole] * orders
    try:
        results: list[msgspec.Raw] = decode(_BatchBody, body).results
    except Malformed as error:
        return [_unreadable(str(error))] * orders
    if len(results) != orders:
        return [_unreadable(f"{len(results)} results for {orders} orders")] * orders
    return [_result(bytes(result)) for result in results]


def retry_after(value: str, now_s: float) -> float | None:
    """Seconds to wait, from a Retry-After header: seconds or an HTTP date (RFC 9110 §10.2.3); None for other text."""
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now_s)


def _result(body: bytes) -> Answer:
    try:
        status: int = decode(_Result, body).status
    except Malformed as error:
        return _unreadable(str(error))
    return decide(Reach.ANSWERED, status, body)


def _success(body: bytes) -> Answer:
    try:
        found: _Body = decode(_Body, body)
    except Malformed as error:
        return _unreadable(str(error))
    if not found.reports:
        return _unreadable("the answer holds no report")
    return Answer("accepted", tuple(found.reports), order=found.order)


def _refusal(status: int, body: bytes, retry_after_s: float | None) -> Answer:
    try:
        reason: Reason = decode(_ErrorBody, body).error
    except Malformed:
        return Answer("unknown", reason=Reason(f"http_{status}", _readable(body)), retry_after_s=retry_after_s)
    if status == 409 and reason.code == "duplicate_cl_ord_id":
        return Answer("duplicate", reason=reason)
    if status == 404 and reason.code == "unknown_order":
        return Answer("not_found", reason=reason)
    if status == 413 or (status == 400 and reason.code == "malformed"):
        return Answer("refused", reason=reason)
    if status == 503 and reason.code == "unavailable":
        return Answer("not_sent", reason=reason, retry_after_s=retry_after_s)
    return Answer("unknown", reason=reason, retry_after_s=retry_after_s)


def _unreadable(text: str) -> Answer:
    return Answer("unknown", reason=Reason("unreadable_answer", text))


def _readable(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
