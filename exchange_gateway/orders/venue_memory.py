"""A small exchange in memory: the twin of `venue_http` for fast tests, true to docs/venue-api.md.

It has one standing quote per symbol, of endless size: what crosses it fills whole at its price, the rest rests or ends.
It is not the simulator, which has books, a tape and a memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.stream import OPEN, NeverReached
from exchange_gateway.venue import FINAL_STATUSES, ExecutionsPage, OrdersPage, VenueOrder, VenueReport
from infra.clock import Clock
from infra.contracts import ExecType, Reason, encode

TICK_MICROS = 10_000
QUANTITY_MAX = 1_000_000
# What `GET /executions` lists: fills, and what became of them.
_EXECUTIONS = ("TRADE", "TRADE_CANCEL", "TRADE_CORRECT")


@dataclass(slots=True)
class _Order:
    terms: NewOrder
    number: int
    cl_ord_id: str
    quantity: int
    limit_micros: int | None
    status: str = "NEW"
    cum_qty: int = 0
    fills: dict[str, tuple[int, int]] = field(default_factory=dict)
    reports: list[VenueReport] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.status not in FINAL_STATUSES

    @property
    def cum_notional_micros(self) -> int:
        return sum(quantity * micros for quantity, micros in self.fills.values())

    def move(self, exec_type: ExecType) -> None:
        """The status after a report. An end holds whatever becomes of the fills; FILLED follows from the quantities."""
        if exec_type in ("CANCELED", "REJECTED", "EXPIRED"):
            self.status = exec_type
        elif self.live or self.status == "FILLED":
            filled = "FILLED" if self.cum_qty >= self.quantity else "PARTIALLY_FILLED"
            self.status = filled if self.cum_qty else "NEW"


class MemoryVenue:
    """A Venue, its VenueBooks and its DropCopySource. `quotes`: symbol → (bid, ask) in micros; 0 is a side without
    orders. Tests may change it as they go."""

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
            return Answer("accepted", (self._emit(entered, "REJECTED", reason=reason),))
        return Answer("accepted", (self._emit(entered, "NEW"), *self._match(entered)))

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        return [await self.submit(order) for order in orders]

    async def cancel(self, request: CancelRequest) -> Answer:
        if answer := self._duplicate(request.cl_ord_id):
            return answer
        order = self._known(request)
        if order is None or not order.live:
            reason = Reason("too_late" if order else "unknown_order")
            return Answer("accepted", (self._reject(order, request, reason),))
        return Answer("accepted", (self._emit(order, "CANCELED", cl_ord_id=request.cl_ord_id),))

    async def replace(self, request: ReplaceRequest) -> Answer:
        if answer := self._duplicate(request.cl_ord_id):
            return answer
        order = self._known(request)
        reason = self._replace_refusal(order, request)
        if order is None or reason is not None:
            return Answer("accepted", (self._reject(order, request, reason or Reason("unknown_order")),))
        order.quantity = request.quantity
        if request.limit_micros is not None:
            order.limit_micros = request.limit_micros
        replaced = self._emit(order, "REPLACED", cl_ord_id=request.cl_ord_id)
        return Answer("accepted", (replaced, *self._match(order)))

    async def query(self, cl_ord_id: str) -> Answer:
        order = self._ids.get(cl_ord_id)
        if order is None:
            return Answer("not_found", reason=Reason("unknown_order", cl_ord_id))
        return Answer("accepted", tuple(order.reports), order=self._state(order))

    async def orders(self, after: int, limit: int) -> OrdersPage:
        found = [self._state(order) for order in self._orders[after : after + limit]]
        last = after + len(found)
        return OrdersPage(len(self._orders), found, last if last < len(self._orders) else None)

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        fills = [(n, report) for n, report in enumerate(self._log, 1) if report.exec_type in _EXECUTIONS]
        page = [(n, report) for n, report in fills if n > after][:limit]
        more = bool(page) and page[-1][0] != fills[-1][0]
        return ExecutionsPage(len(fills), [report for _, report in page], page[-1][0] if more else None)

    async def frames(self, after: int) -> AsyncIterator[bytes]:
        """The drop copy: what is stored after a number, then live."""
        yield OPEN
        if after > len(self._log):
            raise NeverReached(f"{after} of {len(self._log)}")
        while True:
            while after < len(self._log):
                after += 1
                yield encode({"n": after, "report": self._log[after - 1]})
            self._logged.clear()
            await self._logged.wait()

    def bust(self, exec_id: str) -> None:
        """Take a fill back. Its quantity is open again in a live order; an order that had ended stays ended."""
        order, fill = self._fill(exec_id)
        self._restate(order, "TRADE_CANCEL", exec_id, fill, (0, 0), reported=fill)

    def correct(self, exec_id: str, quantity: int, micros: int) -> None:
        """Give a fill its right quantity and price."""
        order, fill = self._fill(exec_id)
        self._restate(order, "TRADE_CORRECT", exec_id, fill, (quantity, micros), reported=(quantity, micros))

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
        if reason := _bad_values(order.quantity, order.limit_micros):
            return reason
        if order.ord_type == "MARKET" and not self._opposite(order):
            return Reason("no_liquidity", order.symbol)
        return None

    def _replace_refusal(self, order: _Order | None, request: ReplaceRequest) -> Reason | None:
        if order is None:
            return Reason("unknown_order")
        if not order.live or 0 < request.quantity <= order.cum_qty:
            return Reason("too_late")
        return _bad_values(request.quantity, request.limit_micros)

    def _opposite(self, terms: NewOrder) -> int:
        bid, ask = self.quotes[terms.symbol]
        return ask if terms.side == "BUY" else bid

    def _match(self, order: _Order) -> list[VenueReport]:
        price, limit = self._opposite(order.terms), order.limit_micros
        crosses = limit is None or (limit >= price if order.terms.side == "BUY" else limit <= price)
        if price and crosses:
            quantity = order.quantity - order.cum_qty
            order.cum_qty += quantity
            report = self._emit(order, "TRADE", last_qty=quantity, last_micros=price)
            order.fills[report.exec_id] = quantity, price
            return [report]
        if order.terms.tif in ("IOC", "FOK"):
            reason = Reason("ioc_rest" if order.terms.tif == "IOC" else "fok_unfilled")
            return [self._emit(order, "CANCELED", reason=reason)]
        return []

    def _fill(self, exec_id: str) -> tuple[_Order, tuple[int, int]]:
        return next((order, order.fills[exec_id]) for order in self._orders if exec_id in order.fills)

    def _restate(
        self,
        order: _Order,
        exec_type: ExecType,
        exec_id: str,
        before: tuple[int, int],
        after: tuple[int, int],
        reported: tuple[int, int],
    ) -> None:
        had_ended = not order.live
        order.cum_qty += after[0] - before[0]
        order.fills[exec_id] = after
        quantity, micros = reported
        self._emit(order, exec_type, last_qty=quantity, last_micros=micros, exec_ref_id=exec_id)
        if had_ended and order.live:
            self._emit(order, "CANCELED", reason=Reason("busted"))

    def _reject(self, order: _Order | None, request: CancelRequest | ReplaceRequest, reason: Reason) -> VenueReport:
        return self._write(
            order,
            "cancel_reject",
            order_status=order.status if order else "REJECTED",
            cl_ord_id=request.cl_ord_id,
            orig_cl_ord_id=order.cl_ord_id if order else request.orig_cl_ord_id,
            reason=reason,
        )

    def _emit(
        self,
        order: _Order,
        exec_type: ExecType,
        cl_ord_id: str | None = None,
        reason: Reason | None = None,
        last_qty: int = 0,
        last_micros: int = 0,
        exec_ref_id: str | None = None,
    ) -> VenueReport:
        order.move(exec_type)
        # A cancel's id is used up and the report carries it; only a replace gives the order a new one.
        answered = cl_ord_id or order.cl_ord_id
        previous, order.cl_ord_id = order.cl_ord_id, answered if exec_type == "REPLACED" else order.cl_ord_id
        return self._write(
            order,
            "execution",
            exec_type=exec_type,
            exec_ref_id=exec_ref_id,
            order_status=order.status,
            cl_ord_id=answered,
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


def _bad_values(quantity: int, limit_micros: int | None) -> Reason | None:
    if not 1 <= quantity <= QUANTITY_MAX:
        return Reason("bad_quantity", str(quantity))
    if limit_micros is not None and limit_micros <= 0:
        return Reason("bad_price", str(limit_micros))
    if limit_micros is not None and limit_micros % TICK_MICROS:
        return Reason("bad_tick", str(limit_micros))
    return None
