"""An order's executions as the exchange reported them, and what each of them adds to the order. Pure.

A fill counts with its own terms until the exchange busts it (ExecType TRADE_CANCEL) or corrects it (TRADE_CORRECT);
both name it by ExecRefID, and the one with the highest number of the order's reports holds. So the quantities are a
function of the set of executions, in whatever order they came, and a bust that overtakes its fill counts too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["fill", "bust", "correct"]


class ExecKey(NamedTuple):
    """One execution. ExecID is unique per venue and session only, and an order may live through several sessions;
    together with the order's own report number at the venue it is unique for ever."""

    order_id: str
    exec_id: str
    venue_seq: int


class Traded(NamedTuple):
    """Shares and their price in total, micros."""

    quantity: int
    notional_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """`exec_ref_id` names the fill that a bust or correction is about. Price in micros, `transact_ns` by the exchange's
    clock. `account_id` is 0 for a fill of no order of ours."""

    key: ExecKey
    kind: Kind
    account_id: int
    symbol: str
    side: str
    last_qty: int
    last_micros: int
    transact_ns: int
    source: str
    exec_ref_id: str | None = None

    @property
    def terms(self) -> tuple[str, str | None, int, int]:
        """What the same execution told again must say again."""
        return self.kind, self.exec_ref_id, self.last_qty, self.last_micros

    def of_order(self, account_id: int, symbol: str, side: str) -> Execution:
        """The same one, as that of an order which is known."""
        return Execution(
            key=self.key,
            kind=self.kind,
            account_id=account_id,
            symbol=symbol,
            side=side,
            last_qty=self.last_qty,
            last_micros=self.last_micros,
            transact_ns=self.transact_ns,
            source=self.source,
            exec_ref_id=self.exec_ref_id,
        )

    @property
    def fill_id(self) -> str:
        """The ExecID of the fill that this is, or is about."""
        return self.exec_ref_id or self.key.exec_id


def added(known: Sequence[Execution], new: Execution) -> Traded:
    """What `new` adds to its order's quantities. `known`: the executions of the same order and fill known already."""
    if not known and new.kind == "fill":
        return Traded(new.last_qty, new.last_qty * new.last_micros)
    then, now = counted(known), counted([*known, new])
    return Traded(now.quantity - then.quantity, now.notional_micros - then.notional_micros)


def counted(executions: Iterable[Execution]) -> Traded:
    """What the executions that share one fill's ExecID come to together. Should that ExecID have come again in a later
    session, a bust or correction is about the fill before it."""
    quantity = notional = 0
    holds: Execution | None = None
    for one in sorted(executions, key=lambda one: one.key.venue_seq):
        if one.kind == "fill":
            quantity, notional = quantity + _shares(holds), notional + _value(holds)
            holds = one
        elif holds is not None:
            holds = one
    return Traded(quantity + _shares(holds), notional + _value(holds))


def _shares(holds: Execution | None) -> int:
    return 0 if holds is None or holds.kind == "bust" else holds.last_qty


def _value(holds: Execution | None) -> int:
    return 0 if holds is None else _shares(holds) * holds.last_micros
