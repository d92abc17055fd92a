"""Reports about orders that we do not have. Their fills are real: the exchange will settle them with the house, so they
are booked to its suspense account and listed for a person."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import UUID, uuid5

from order_service.domain import executions, ledger
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution, counted
from order_service.domain.ledger import HOUSE
from order_service.heard import Heard
from order_service.store.unit import Unit

_ENTRIES = UUID("0d5b5f57-6b1d-5d8c-9a39-2b7a1f2c9e21")


@dataclass(frozen=True, slots=True)
class Stranger:
    """A fill of an unknown order, or what undoes one, was booked to suspense."""

    execution: Execution


class Listed(Enum):
    NOTHING = "nothing"  # nothing that moves shares or cash
    UNREADABLE = "unreadable"  # a fill that does not say of what


def unknown_order(unit: Unit, said: Heard, now_us: int) -> Stranger | Listed:
    """Book and list what the exchange says of an order that we do not have."""
    report, execution = said.report, said.execution
    if execution is not None:
        return _suspended(unit, said, execution, now_us)
    if report.exec_type == "NEW":
        found = Break(
            kind="missing_here",
            subject=report.cl_ord_id,
            ours={},
            theirs={"symbol": report.symbol, "side": report.side, "quantity": report.quantity},
            proposal="Ask the exchange who sent it; cancel it there if nobody did.",
            order_id=said.order_id if said.ours else None,
            seen_us=now_us,
        )
        unit.broken(found)
    return Listed.NOTHING


def _suspended(unit: Unit, said: Heard, execution: Execution, now_us: int) -> Stranger | Listed:
    known = unit.of_fill(said.order_id, execution.fill_id)
    # A bust need not say again what the fill said.
    symbol = execution.symbol or next((one.symbol for one in known), "")
    side = execution.side or next((one.side for one in known), "")
    if not symbol or not side:
        return Listed.UNREADABLE
    execution = execution.of_order(HOUSE, symbol, side)
    traded = executions.added(known, execution)
    unit.executed(execution)
    entry = str(uuid5(_ENTRIES, ":".join(map(str, execution.key))))
    unit.book(ledger.suspended(symbol, side, traded.quantity, traded.notional_micros), entry, None, now_us)
    whole = counted(unit.of_fill(said.order_id, execution.fill_id))
    undone = whole.quantity == 0
    unit.broken(
        Break(
            kind="unknown_order_fill",
            subject=f"{said.report.cl_ord_id} {execution.fill_id}",
            ours={},
            theirs={
                "symbol": symbol,
                "side": side,
                "quantity": whole.quantity,
                "notionalMicros": whole.notional_micros,
                "exchangeOrderId": said.report.exchange_order_id,
            },
            proposal="Find the order's owner and move the fill from suspense to their account, or have it busted.",
            order_id=said.order_id if said.ours else None,
            state="explained" if undone else "open",
            note="The exchange busted the fill." if undone else "",
            seen_us=now_us,
        )
    )
    return Stranger(execution)
