"""The only place of order states: one table, status × event → status, in FIX vocabulary.

The exchange's reports may come twice, late and in any order, and the end must not depend on that. So the table is a
ladder: each event lifts an order to at least its own rung, and nothing takes it down again. Lowest first: PENDING,
HELD < PLACED < PARTIALLY_FILLED < EXPIRED < CANCELED < REJECTED < FILLED. A late acknowledgement cannot undo a fill, a
cancel that crosses the last fill leaves the order FILLED, a partial fill after a cancel counts while it stays CANCELED.

What we ended ourselves (`FAILED`, or `EXPIRED` before it was sent) was a conclusion, not the exchange's word: when the
exchange speaks of the order after all, the conclusion is withdrawn first (`SURFACED`) and its word counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """What holds now (FIX OrdStatus, in the owner's words)."""

    PENDING = "PENDING"  # stored; the exchange has not spoken yet
    HELD = "HELD"  # conditional, waits for its trigger
    PLACED = "PLACED"  # the exchange acknowledged it
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"  # proved not at the exchange, and given up


FINAL = frozenset({Status.FILLED, Status.CANCELED, Status.REJECTED, Status.EXPIRED, Status.FAILED})


class Event(StrEnum):
    """Why the order may change. The first six are the exchange's words (FIX ExecType), the others ours."""

    ACKNOWLEDGED = "ACKNOWLEDGED"
    PART_FILLED = "PART_FILLED"  # a fill that leaves something open
    FILLED = "FILLED"  # the fill that completes the quantity, or goes over it
    EXPIRED = "EXPIRED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    REFUSED = "REFUSED"  # the exchange did not take the request
    TOO_LATE = "TOO_LATE"  # never sent, and its time is over
    GIVEN_UP = "GIVEN_UP"  # never sent for another reason
    SURFACED = "SURFACED"  # we had ended it, but the exchange has it


_P, _H, _A = Status.PENDING, Status.HELD, Status.PLACED
_PART, _FULL = Status.PARTIALLY_FILLED, Status.FILLED
_C, _R, _E, _F = Status.CANCELED, Status.REJECTED, Status.EXPIRED, Status.FAILED

_EVENTS = tuple(Event)
# fmt: off
_ROWS: Mapping[Status, tuple[Status, ...]] = {
    #       ACK    PART   FILLED EXPIRED CANCELED REJECTED REFUSED TOO_LATE GIVEN_UP SURFACED
    _P:    (_A,    _PART, _FULL, _E,     _C,      _R,      _R,     _E,      _F,      _P),
    _H:    (_A,    _PART, _FULL, _E,     _C,      _R,      _R,     _E,      _F,      _H),
    _A:    (_A,    _PART, _FULL, _E,     _C,      _R,      _A,     _A,      _A,      _A),
    _PART: (_PART, _PART, _FULL, _E,     _C,      _R,      _PART,  _PART,   _PART,   _PART),
    _E:    (_E,    _E,    _FULL, _E,     _C,      _R,      _R,     _E,      _E,      _P),
    _C:    (_C,    _C,    _FULL, _C,     _C,      _R,      _C,     _C,      _C,      _P),
    _R:    (_R,    _R,    _FULL, _R,     _R,      _R,      _R,     _R,      _R,      _P),
    _F:    (_F,    _F,    _FULL, _E,     _C,      _R,      _R,     _E,      _F,      _P),
    _FULL: (_FULL, _FULL, _FULL, _FULL,  _FULL,   _FULL,   _FULL,  _FULL,   _FULL,   _FULL),
}
# fmt: on
TABLE: Mapping[tuple[Status, Event], Status] = {
    (status, event): after for status, row in _ROWS.items() for event, after in zip(_EVENTS, row, strict=True)
}
# Our own conclusions: never stronger than the exchange's word.
OURS = frozenset({Event.REFUSED, Event.TOO_LATE, Event.GIVEN_UP})

# What clients are told happened when an order comes to a status.
NAMES: Mapping[Status, str] = {
    Status.PLACED: "OrderAccepted",
    Status.PARTIALLY_FILLED: "OrderPartiallyFilled",
    Status.FILLED: "OrderFilled",
    Status.CANCELED: "OrderCanceled",
    Status.REJECTED: "OrderRejected",
    Status.EXPIRED: "OrderExpired",
    Status.FAILED: "OrderFailed",
}
