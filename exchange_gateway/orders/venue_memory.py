"""A small exchange in memory: the twin of `venue_http` for fast tests, true to docs/venue-api.md.

It has one standing quote per symbol, of endless size: what crosses it fills whole at its price, the rest rests or ends.
It is not the simulator, which has books, a tape and a memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.stream import OPEN
from exchange_gateway.venue import FINAL_STATUSES, ExecutionsPage, VenueOrder, VenueReport
from infra.clock import Clock
from infra.contracts import ExecType, Reason, encode

TICK_MICROS = 10_000
QUANTITY_MAX = 1_000_000


@dataclass(slots=True)
class _Order:
    terms: NewOrder
    number: int
    cl_ord_id: str
    quantity: int
    limit_micros: int | None
    status: str = "NEW"
    cum_qty: int = 0
    cum_notional_micros: int = 0
    reports: list[VenueReport] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.status not in FINAL_STATUSES


class MemoryVenue:
    """`quotes`: symbol → (bid, ask) in micros; 0 is a side without orders. Tests may change it as they go."""

    def __init__(self, clock: Clock, quotes: Mapping[str, tuple[int, int]], session: int = 1_700_000_000) -> None:
        self.quotes = dict(quotes)
        self._clock = clock
        self._session = session
        self._ids: dict[str, _Order] = {}
        self._orders: list[_Order] = []
        self._log: list[VenueReport] = []
        self._logged = asyncio.Event()

    async def submit(self, order: NewOrder) -> Answer:
        if (order.ord_type == "LIMIT") != (order.limit_micros is not None):
            return Answer("refused", reason=Reason("malformed", "limit_micros goes with LIMIT, and only with it"))
        if answer := self._duplicate(order.cl_ord_id):
            return answer
        entered = _Order(order, len(self._orders) + 1, order.cl_ord_id, order.quantity, order.limit_micros)
        self._orders.append(entered)
        self._ids[order.cl_ord_id] = entered
        reason = self._refusal(order)
        if reason:
            return Answer("accepted", (self._emit(entered, "REJECTED", "REJECTED", reason=reason),))
        return Answer("accepted", (self._emit(entered, "NEW", "NEW"), *self._match(entered)))

    async def cancel(self, request: CancelRequest) -> Answer:
        if answer := self._duplicate(request.cl_ord_id):
            return answer
        order = self._known(request)
        if order is None or not order.live:
            return Answer("accepted", (self._reject(order, request),))
        return Answer("accepted", (self._emit(order, "CANCELED", "CANCELED", cl_ord_id=request.cl_ord_id),))

    async def replace(self, request: ReplaceRequest) -> Answer:
        if answer := self._duplicate(request.cl_ord_id):
            return answer
        order = self._known(request)
        if order is None or not order.live or request.quantity <= order.cum_qty:
            return Answer("accepted", (self._reject(order, request),))
        order.quantity, order.limit_micros = request.quantity, request.limit_micros
        replaced = self._emit(order, "REPLACED", order.status, cl_ord_id=request.cl_ord_id)
        return Answer("accepted", (replaced, *self._match(order)))

    async def query(self, cl_ord_id: str) -> Answer:
        order = self._ids.get(cl_ord_id)
        if order is None:
            return Answer("not_found", reason=Reason("unknown_order", cl_ord_id))
        return Answer("accepted", tuple(order.reports), order=self._state(order))

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        fills = [(n, report) for n, report in enumerate(self._log, 1) if report.exec_type == "TRADE"]
        page = [(n, report) for n, report in fills if n > after][:limit]
        more = bool(page) and page[-1][0] != fills[-1][0]
        return ExecutionsPage(len(fills), [report for _, report in page], page[-1][0] if more else None)

    async def frames(self, after: int) -> AsyncIterator[bytes]:
        """The drop copy: what is stored after a number, then live."""
        yield OPEN
        while True:
            while after < len(self._log):
                after += 1
                yield encode({"n": after, "report": self._log[after - 1]})
            self._logged.clear()
            await self._logged.wait()

    def _duplicate(self, cl_ord_id: str) -> Answer | None:
        if cl_ord_id not in self._ids:
            return None
        return Answer("duplicate", reason=Reason("duplicate_cl_ord_id", cl_ord_id))

    def _known(self, request: CancelRequest | ReplaceRequest) -> _Order | None:
        """The order that a request names, which uses the request's id up; without an order the id stays free."""
        order = self._ids.get(request.orig_cl_ord_id)
        if order is not None:
            self._ids[request.cl_ord_id] = order
        return order

    def _refusal(self, order: NewOrder) -> Reason | None:
        if order.symbol not in self.quotes:
            return Reason("unknown_symbol", order.symbol)
        if not 1 <= order.quantity <= QUANTITY_MAX:
            return Reason("bad_quantity", str(order.quantity))
        if order.limit_micros is not None and order.limit_micros <= 0:
            return Reason("bad_price", str(order.limit_micros))
        if order.limit_micros is not None and order.limit_micros % TICK_MICROS:
            return Reason("bad_tick", str(order.limit_micros))
        if order.ord_type == "MARKET" and not self._opposite(order):
            return Reason("no_liquidity", order.symbol)
        return None

    def _opposite(self, terms: NewOrder) -> int:
        bid, ask = self.quotes[terms.symbol]
        return ask if terms.side == "BUY" else bid

    def _match(self, order: _Order) -> list[VenueReport]:
        price, limit = self._opposite(order.terms), order.limit_micros
        crosses = limit is None or (limit >= price if order.terms.side == "BUY" else limit <= price)
        if price and crosses:
            quantity = order.quantity - order.cum_qty
            order.cum_qty += quantity
            order.cum_notional_micros += quantity * price
            return [self._emit(order, "TRADE", "FILLED", last_qty=quantity, last_micros=price)]
        if order.terms.tif in ("IOC", "FOK"):
            reason = Reason("ioc_rest" if order.terms.tif == "IOC" else "fok_unfilled")
            return [self._emit(order, "CANCELED", "CANCELED", reason=reason)]
        return []

    def _reject(self, order: _Order | None, request: CancelRequest | ReplaceRequest) -> VenueReport:
        return self._write(
            order,
            "cancel_reject",
            order_status=order.status if order else "REJECTED",
            cl_ord_id=request.cl_ord_id,
            orig_cl_ord_id=request.orig_cl_ord_id,
            reason=Reason("too_late" if order else "unknown_order"),
        )

    def _emit(
        self,
        order: _Order,
        exec_type: ExecType,
        status: str,
        cl_ord_id: str | None = None,
        reason: Reason | None = None,
        last_qty: int = 0,
        last_micros: int = 0,
    ) -> VenueReport:
        order.status = status
        previous, order.cl_ord_id = order.cl_ord_id, cl_ord_id or order.cl_ord_id
        return self._write(
            order,
            "execution",
            exec_type=exec_type,
            order_status=status,
            cl_ord_id=order.cl_ord_id,
            orig_cl_ord_id=previous if cl_ord_id else None,
            last_qty=last_qty,
            last_micros=last_micros,
            reason=reason,
        )

    def _write(
        self, order: _Order | None, kind: Literal["execution", "cancel_reject"], **fields: object
    ) -> VenueReport:
        report = VenueReport(
            kind=kind,
            exec_id=f"{self._session}-{len(self._log) + 1}",
            session=self._session,
            exchange_order_id=f"X{order.number}" if order else None,
            symbol=order.terms.symbol if order else None,
            side=order.terms.side if order else None,
            quantity=order.quantity if order else 0,
            limit_micros=order.limit_micros if order else None,
            cum_qty=order.cum_qty if order else 0,
            leaves_qty=order.quantity - order.cum_qty if order and order.live else 0,
            venue_seq=len(order.reports) + 1 if order else 0,
            transact_ns=self._clock.now_ns(),
            **fields,  # type: ignore[arg-type]
        )
        self._log.append(report)
        if order is not None:
            order.reports.append(report)
        self._logged.set()
        return report

    def _state(self, order: _Order) -> VenueOrder:
        return VenueOrder(
            cl_ord_id=order.cl_ord_id,
            exchange_order_id=f"X{order.number}",
            symbol=order.terms.symbol,
            side=order.terms.side,
            ord_type=order.terms.ord_type,
            tif=order.terms.tif,
            quantity=order.quantity,
            limit_micros=order.limit_micros,
            order_status=order.status,
            cum_qty=order.cum_qty,
            leaves_qty=order.quantity - order.cum_qty if order.live else 0,
            cum_notional_micros=order.cum_notional_micros,
            venue_seq=len(order.reports),
            session=self._session,
        )
