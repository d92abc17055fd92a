"""The exchange's side against ours: pure. What differs is a break; what of it is safe to mend is said beside it.

An order that changed shortly before the snapshot was taken is not compared: its reports may be on their way. It is
compared in the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.contracts import Snapshot, VenueState
from order_service.domain.breaks import Break, BreakKind
from order_service.domain.executions import Execution
from order_service.domain.ledger import CASH
from order_service.domain.lifecycle import Status, status_of
from order_service.domain.order import Order
from order_service.heard import known_as
from order_service.store.audit import total

US_PER_S = 1_000_000
# What the exchange says of an order that lives, or that only its fills ended.
_LIVE = frozenset({"NEW", "PARTIALLY_FILLED", "FILLED"})


@dataclass(slots=True)
class Sight:
    """What was seen of one snapshot so far. Orders and fills are by our order id; `differing` are those that stood
    differently when their page was read; `oldest_session` is that of the oldest order that the exchange remembers."""

    snapshot: Snapshot
    grace_us: int
    next_page: int = 1
    orders: int = 0
    fills: int = 0
    seen: set[str] = field(default_factory=set)
    differing: dict[str, VenueState] = field(default_factory=dict)
    executions: defaultdict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    oldest_session: int | None = None

    @property
    def compared_until_us(self) -> int:
        return self.snapshot.taken_ns // 1000 - self.grace_us

    def settled(self, order: Order) -> bool:
        return order.updated_us < self.compared_until_us

    def saw(self, order_id: str, state: VenueState) -> None:
        self.seen.add(order_id)
        known = state.session if self.oldest_session is None else self.oldest_session
        self.oldest_session = min(known, state.session)

    def whole(self, end: Snapshot) -> bool:
        return (self.orders, self.fills) == (end.orders_total, end.fills_total)

    def memory_began_after(self, order: Order) -> bool:
        """Did the exchange begin to remember only after it had acknowledged the order? Then all that it remembers is of
        later sessions; an order that is older with us may be among it, sent again since. Sessions are numbered by the
        second in which they begin, so this cannot be told more exactly."""
        began = self.snapshot.session if self.oldest_session is None else self.oldest_session
        return order.created_us < (began + 1) * US_PER_S


def stands_as(order: Order, state: VenueState) -> bool:
    standing = Status.PLACED if state.order_status in _LIVE else Status(state.order_status)
    theirs = status_of(standing, state.cum_qty, state.quantity)
    return (theirs, state.quantity, state.cum_qty, state.cum_notional_micros, state.limit_micros) == (
        order.status,
        order.quantity,
        order.cum_qty,
        order.cum_notional_micros,
        order.amount_micros,
    )


def status_break(order: Order, state: VenueState, now_us: int) -> Break:
    ours = {
        "status": order.status,
        "quantity": order.quantity,
        "cumQuantity": order.cum_qty,
        "cumNotionalMicros": order.cum_notional_micros,
        "limitMicros": order.amount_micros,
    }
    proposal = "The exchange was asked for all its reports of the order; look again after its answer."
    return _about("status", order, ours, _stated(state), proposal, now_us)


def missing_here(state: VenueState, now_us: int) -> Break:
    order_id, request = known_as(state.cl_ord_id)
    return Break(
        kind="missing_here",
        subject=state.cl_ord_id,
        ours={},
        theirs=_stated(state),
        proposal="Ask the exchange who sent it; cancel it there if nobody did.",
        order_id=order_id if request else None,
        seen_us=now_us,
    )


def fill_missing_here(order: Order, execution: Execution, now_us: int) -> Break:
    """Mended at once: the exchange's own report was applied."""
    found = _about("fill_missing_here", order, {}, _said(execution), "None: the report was applied.", now_us, execution)
    return replace(found, state="repaired", note="The exchange's report came with a snapshot and was applied.")


def fills_missing_there(
    order: Order, ours: Iterable[Execution], theirs: Iterable[Execution], now_us: int
) -> list[Break]:
    """Executions of an order that the exchange remembers, but not them."""
    known = {execution.key for execution in theirs}
    proposal = "Ask the exchange to confirm or bust the fill."
    return [
        _about("fill_missing_at_venue", order, _said(one), {}, proposal, now_us, one)
        for one in ours
        if one.key not in known
    ]


def missing_there(order: Order, sight: Sight, now_us: int) -> Break | None:
    """An open order that the exchange had acknowledged and has no more; None when there is nothing wrong."""
    if order.final or order.venue_seq == 0 or order.id in sight.seen or not sight.settled(order):
        return None
    ours = {"status": order.status, "exchangeOrderId": order.exchange_order_id, "leavesQuantity": order.leaves_qty}
    found = _about("missing_at_venue", order, ours, {}, "End the order here; nothing of it can fill any more.", now_us)
    if sight.memory_began_after(order):
        note = f"The exchange began session {sight.snapshot.session} without its memory of what was before."
        return replace(found, state="explained", note=note)
    return found


@dataclass(slots=True)
class Totals:
    """Shares and cash of each account by both sides' executions, over the orders that both have; not of accounts that
    are `moving`, of which an order could not be compared."""

    ours: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    theirs: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    moving: set[int] = field(default_factory=set)

    def add(self, order: Order, ours: Sequence[Execution], theirs: Sequence[Execution]) -> None:
        sign = 1 if order.order_type == "buy" else -1
        for side, executions in ((self.ours, ours), (self.theirs, theirs)):
            traded = total(executions)
            side[order.account_id, order.symbol] += sign * traded.quantity
            side[order.account_id, CASH] -= sign * traded.notional_micros

    def breaks(self, now_us: int) -> list[Break]:
        found = []
        for account_id, asset in sorted(self.ours.keys() | self.theirs.keys()):
            ours, theirs = self.ours[account_id, asset], self.theirs[account_id, asset]
            if ours != theirs and account_id not in self.moving:
                what = "micros" if asset == CASH else "shares"
                difference = Break(
                    kind="cash" if asset == CASH else "position",
                    subject=f"{account_id}/{asset}",
                    ours={what: ours},
                    theirs={what: theirs},
                    proposal="Mend the fills that differ; this follows from them.",
                    account_id=account_id,
                    seen_us=now_us,
                )
                found.append(difference)
        return found


def agrees_again(
    listed: Break, order: Order | None, compared: Collection[str], quiet: Collection[int], sight: Sight, audited: bool
) -> bool:
    """Is a listed break, which was not found again, mended? Only what this snapshot could show counts: orders that were
    `compared`, accounts all of whose orders were (`quiet`), the books if they were `audited`. `order` as it is now."""
    match listed.kind:
        case "status" | "fill_missing_at_venue":
            return listed.order_id in compared
        case "missing_here":
            return order is not None
        case "missing_at_venue":
            return order is not None and (order.final or order.id in sight.seen)
        case "position" | "cash":
            return listed.account_id in quiet
        case "ledger":
            return audited
        case _:
            return False


def _about(
    kind: BreakKind,
    order: Order,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    proposal: str,
    now_us: int,
    execution: Execution | None = None,
) -> Break:
    return Break(
        kind=kind,
        subject=order.id if execution is None else " ".join(map(str, execution.key)),
        ours=ours,
        theirs=theirs,
        proposal=proposal,
        order_id=order.id,
        account_id=order.account_id,
        seen_us=now_us,
    )


def _stated(state: VenueState) -> dict[str, Any]:
    return {
        "status": state.order_status,
        "quantity": state.quantity,
        "cumQuantity": state.cum_qty,
        "cumNotionalMicros": state.cum_notional_micros,
        "limitMicros": state.limit_micros,
        "exchangeOrderId": state.exchange_order_id,
    }


def _said(execution: Execution) -> dict[str, Any]:
    return {"kind": execution.kind, "lastQuantity": execution.last_qty, "lastMicros": execution.last_micros}
