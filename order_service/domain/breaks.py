"""A break: a difference between our books and the exchange's, or within ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid5

BreakKind = Literal[
    "unknown_order_fill",  # the exchange filled an order that we do not have: booked to suspense
    "exec_conflict",  # one ExecID told twice with different numbers
    "overfill",  # more traded than ordered: booked, the account is blocked
    "missing_at_venue",  # open here, unknown to the exchange
    "missing_here",  # the exchange has an order that we do not
    "status",  # both have it, it stands differently
    "fill_missing_here",
    "fill_missing_at_venue",
    "position",  # shares by our books and by the exchange's fills differ
    "cash",  # money by our books and by the exchange's fills differs
    "ledger",  # our own books contradict themselves
]
State = Literal["open", "repaired", "explained", "accepted"]
_NAMESPACE = UUID("6b1d3f0e-5f0c-5d0b-9a57-0f5f6f1a7c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """`subject` is what it is about (an order id, an ExecID, `account/symbol`); kind and subject identify it, so the
    same difference found again is the same break. `ours` and `theirs` are both sides' numbers, `proposal` what would
    mend it. A `repaired` break was mended by us, an `explained` one is not ours to mend and says why, an `accepted`
    one was closed by a person."""

    kind: BreakKind
    subject: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    proposal: str
    order_id: str | None = None
    account_id: int | None = None
    state: State = "open"
    note: str = ""
    seen_us: int = 0

    @property
    def id(self) -> str:
        return str(uuid5(_NAMESPACE, f"{self.kind}:{self.subject}"))
