"""The only place of order states, in FIX vocabulary: one table, standing × event → standing.

An order's *standing* is what the exchange and we have said of it apart from its fills; its *status*, what clients see,
follows from the standing and the quantities (:func:`status_of`). Keeping the two apart makes reports order-independent:
they may come twice, late and in any order, a fill may be busted and the quantity replaced, and the end is the same.

The table is a ladder: each event lifts an order to at least its own rung, and nothing takes it down again. Lowest
first: PENDING, HELD < PLACED < EXPIRED < CANCELED < REJECTED. A late acknowledgement cannot undo an end; a fill counts
whatever the standing, so a cancel that crosses the last fill leaves the order FILLED, and CANCELED again if that fill
is busted.

What we ended ourselves (`FAILED`, or `EXPIRED` before it was sent) was a conclusion, not the exchange's word: when the
exchange speaks of the order after all, the conclusion is withdrawn first (`SURFACED`) and its word counts.

Effects follow from the state and are kept in no table: what stays open (`leaves_qty`), what stays reserved and what is
booked are functions of the order before and after (`domain/ledger.py`).
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
# The statuses that are standings too: all but those that fills make.
ENDS = FINAL - {Status.FILLED}


class Event(StrEnum):
    """Why an order's standing may change. The first five are the exchange's words (FIX ExecType), the others ours."""

    ACKNOWLEDGED = "ACKNOWLEDGED"
    TRADED = "TRADED"  # a fill, its bust or its correction: whatever else, the exchange has the order
    EXPIRED = "EXPIRED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    REFUSED = "REFUSED"  # the exchange did not take the request
    TOO_LATE = "TOO_LATE"  # never sent, and its time is over
    GIVEN_UP = "GIVEN_UP"  # never sent for another reason
    SURFACED = "SURFACED"  # we had ended it, but the exchange has it


_P, _H, _A = Status.PENDING, Status.HELD, Status.PLACED
_C, _R, _E, _F = Status.CANCELED, Status.REJECTED, Status.EXPIRED, Status.FAILED

_EVENTS = tuple(Event)
# fmt: off
_ROWS: Mapping[Status, tuple[Status, ...]] = {
    #    ACK  TRADED EXPIRED CANCELED REJECTED REFUSED TOO_LATE GIVEN_UP SURFACED
    _P: (_A,  _A,    _E,     _C,      _R,      _R,     _E,      _F,      _P),
    _H: (_A,  _A,    _E,     _C,      _R,      _R,     _E,      _F,      _H),
    _A: (_A,  _A,    _E,     _C,      _R,      _A,     _A,      _A,      _A),
    _E: (_E,  _E,    _E,     _C,      _R,      _R,     _E,      _E,      _P),
    _C: (_C,  _C,    _C,     _C,      _R,      _C,     _C,      _C,      _P),
    _R: (_R,  _R,    _R,     _R,      _R,      _R,     _R,      _R,      _P),
    _F: (_F,  _F,    _E,     _C,      _R,      _R,     _E,      _F,      _P),
}
# fmt: on
TABLE: Mapping[tuple[Status, Event], Status] = {
    (standing, event): after for standing, row in _ROWS.items() for event, after in zip(_EVENTS, row, strict=True)
}
# Our own conclusions: never stronger than the exchange's word.
OURS = frozenset({Event.REFUSED, Event.TOO_LATE, Event.GIVEN_UP})


def status_of(standing: Status, cum_qty: int, quantity: int) -> Status:
    """What clients see. A full fill is stronger than any end: what was traded was traded."""
    if cum_qty >= quantity:
        return Status.FILLED
    if cum_qty > 0 and standing not in ENDS:
        return Status.PARTIALLY_FILLED
    return standing


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
