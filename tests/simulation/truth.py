"""What really happened at the exchange, from its journal, folded by this file's own few lines: nothing of ours helps.

A *life* of the venue ends when it forgets everything: its numbers begin anew, and it knows no order of before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from exchange_gateway.simulator.journal_reader import Recorded
from exchange_gateway.simulator.messages import Report
from infra.contracts import Malformed, order_id_of
from order_service.domain.lifecycle import Status

_STATUSES = {
    "NEW": Status.PLACED,
    "PARTIALLY_FILLED": Status.PARTIALLY_FILLED,
    "FILLED": Status.FILLED,
    "CANCELED": Status.CANCELED,
    "REJECTED": Status.REJECTED,
    "EXPIRED": Status.EXPIRED,
}
_KINDS = {"TRADE": "fill", "TRADE_CANCEL": "bust", "TRADE_CORRECT": "correct"}


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill, bust or correction as the venue told it. Price in micros."""

    exec_id: str
    venue_seq: int
    kind: str
    exec_ref_id: str | None
    quantity: int
    micros: int


@dataclass(slots=True)
class AtVenue:
    """One order in one life of the venue. `stray`: nobody had sent it."""

    life: int
    exchange_order_id: str
    cl_ord_ids: list[str] = field(default_factory=list)
    stray: bool = False
    reports: dict[int, Report] = field(default_factory=dict)  # by venue_seq

    @property
    def last(self) -> Report:
        return self.reports[max(self.reports)]

    @property
    def status(self) -> Status:
        """What was traded was traded: a full fill is stronger than any end."""
        last = self.last
        return Status.FILLED if 0 < last.quantity <= last.cum_qty else _STATUSES[last.order_status]

    @property
    def executions(self) -> list[Execution]:
        found = []
        for seq, report in sorted(self.reports.items()):
            if report.exec_type in _KINDS:
                kind = _KINDS[report.exec_type]
                quantity, micros = report.last_qty, report.last_micros
                found.append(Execution(report.exec_id, seq, kind, report.exec_ref_id, quantity, micros))
        return found

    def traded(self) -> tuple[int, int]:
        """Shares, and their price in total: the fills as they stand after busts and corrections."""
        fills: dict[str, tuple[int, int]] = {}
        for one in self.executions:
            if one.kind == "bust":
                fills[one.exec_ref_id or ""] = (0, 0)
            else:
                fills[one.exec_ref_id or one.exec_id] = (one.quantity, one.micros)
        return sum(quantity for quantity, _ in fills.values()), sum(q * micros for q, micros in fills.values())


@dataclass(slots=True)
class Truth:
    """All orders of all lives, by order id (a ClOrdID that is not of our making stands for itself), oldest first."""

    orders: dict[str, list[AtVenue]] = field(default_factory=dict)
    lives: int = 1

    def present(self, order_id: str) -> AtVenue | None:
        """The order as the venue knows it today."""
        found = self.orders.get(order_id, [])
        return found[-1] if found and found[-1].life == self.lives else None

    def doubled(self, order_id: str) -> bool:
        """Was it taken as a new order twice by a venue that remembered the first one?"""
        lives = [one.life for one in self.orders.get(order_id, [])]
        return len(set(lives)) < len(lives)

    def forgotten(self, order_id: str) -> bool:
        """Did the venue know it once and forget it?"""
        return any(one.life < self.lives for one in self.orders.get(order_id, []))


def truth(journal: Iterable[Recorded]) -> Truth:
    found = Truth()
    last_n = 0
    for line in journal:
        for report in line.reports:
            n = int(report.exec_id.rpartition("-")[2])
            if n <= last_n:
                found.lives += 1
            last_n = n
            if report.exchange_order_id is None:
                continue  # about a request that names no order
            order = _order(found, report)
            assert report.venue_seq not in order.reports, "the venue told two things under one number"
            order.reports[report.venue_seq] = report
        if line.terms is not None and line.reports and line.kind != "carried":
            _order(found, line.reports[0]).stray = line.kind == "stray"
    return found


def _order(found: Truth, report: Report) -> AtVenue:
    known = found.orders.setdefault(_order_id(report.cl_ord_id), [])
    name = report.exchange_order_id or ""
    order = next((one for one in known if (one.life, one.exchange_order_id) == (found.lives, name)), None)
    if order is None:
        order = AtVenue(found.lives, name)
        known.append(order)
    if report.cl_ord_id not in order.cl_ord_ids:
        order.cl_ord_ids.append(report.cl_ord_id)
    return order


def _order_id(cl_ord_id: str) -> str:
    try:
        return order_id_of(cl_ord_id)
    except Malformed:
        return cl_ord_id
