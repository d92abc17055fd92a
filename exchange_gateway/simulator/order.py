"""One order as the venue remembers it: the terms it came with, and what its reports made of it.

An order is the fold of its reports (:meth:`Order.absorb`), while trading and when a journal is read back alike, so both
ways end in the same state.
"""

from __future__ import annotations

import msgspec

from exchange_gateway.simulator.messages import (
    LIVE,
    NewOrder,
    Numbered,
    OrderState,
    OrdStatus,
    Report,
    exchange_order_id,
)


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What of a report tells the fills."""

    exec_id: str
    exec_type: str | None
    exec_ref_id: str | None
    last_qty: int
    last_micros: int


class Order(msgspec.Struct, gc=False):
    """`ids` is the chain of ClOrdIDs that lead here; `stamp` is the order's time priority in the book.

    An order holds nothing that could hold it, so the garbage collector need not walk through hundreds of thousands of
    them (`gc=False`, tuples of atoms): with lists instead, 200,000 orders stopped the venue for 0.2 s at a time.
    """

    number: int
    terms: NewOrder
    session: int
    cl_ord_id: str = ""
    ids: tuple[str, ...] = ()
    quantity: int = 0
    limit_micros: int | None = None
    status: OrdStatus | None = None  # before its first report
    cum_qty: int = 0
    cum_notional_micros: int = 0
    venue_seq: int = 0
    stamp: int = 0
    last_n: int = 0
    reports: tuple[tuple[int, bytes], ...] = ()  # (drop-copy number, report as JSON)

    def __post_init__(self) -> None:
        self.cl_ord_id, self.ids = self.terms.cl_ord_id, (self.terms.cl_ord_id,)
        self.quantity, self.limit_micros = self.terms.quantity, self.terms.limit_micros

    @property
    def live(self) -> bool:
        return self.status in LIVE

    @property
    def open_qty(self) -> int:
        """What may still trade. Once the order has ended, LeavesQty is 0 and this is not."""
        return self.quantity - self.cum_qty

    def absorb(self, numbered: Numbered) -> None:
        """Take in the order's next report."""
        report = numbered.report
        assert report.venue_seq == self.venue_seq + 1, "reports of one order have no holes"
        if report.exec_type == "NEW" or (report.exec_type == "REPLACED" and self._loses_priority(report)):
            self.stamp = numbered.n
        if report.exec_type == "REPLACED":
            self.cl_ord_id = report.cl_ord_id
        if report.cl_ord_id not in self.ids:
            self.ids = (*self.ids, report.cl_ord_id)
        self.quantity, self.limit_micros = report.quantity, report.limit_micros
        self.status = report.order_status
        self.cum_qty = report.cum_qty
        self.cum_notional_micros += self._notional_change(report)
        self.venue_seq = report.venue_seq
        self.last_n = numbered.n
        self.reports = (*self.reports, (numbered.n, numbered.body))

    def fills(self) -> dict[str, tuple[int, int]]:
        """ExecID → (quantity, price) of each fill as it stands after its corrections; a busted one is (0, 0)."""
        found: dict[str, tuple[int, int]] = {}
        for _, body in self.reports:
            said = msgspec.json.decode(body, type=_Said)
            if said.exec_type == "TRADE":
                found[said.exec_id] = said.last_qty, said.last_micros
            elif said.exec_type == "TRADE_CORRECT" and said.exec_ref_id is not None:
                found[said.exec_ref_id] = said.last_qty, said.last_micros
            elif said.exec_type == "TRADE_CANCEL" and said.exec_ref_id is not None:
                found[said.exec_ref_id] = 0, 0
        return found

    def state(self) -> OrderState:
        assert self.status is not None
        return OrderState(
            cl_ord_id=self.cl_ord_id,
            exchange_order_id=exchange_order_id(self.number),
            symbol=self.terms.symbol,
            side=self.terms.side,
            ord_type=self.terms.ord_type,
            tif=self.terms.tif,
            quantity=self.quantity,
            limit_micros=self.limit_micros,
            order_status=self.status,
            cum_qty=self.cum_qty,
            leaves_qty=self.open_qty if self.live else 0,
            cum_notional_micros=self.cum_notional_micros,
            venue_seq=self.venue_seq,
            session=self.session,
        )

    def _notional_change(self, report: Report) -> int:
        """`last_qty` of a bust or a correction is the fill's quantity, not one more: the old terms go."""
        notional = report.last_qty * report.last_micros
        if report.exec_type == "TRADE_CANCEL":
            return -notional
        if report.exec_type == "TRADE_CORRECT" and report.exec_ref_id is not None:
            quantity, micros = self.fills()[report.exec_ref_id]
            return notional - quantity * micros
        return notional

    def _loses_priority(self, replaced: Report) -> bool:
        return replaced.limit_micros != self.limit_micros or replaced.quantity > self.quantity
