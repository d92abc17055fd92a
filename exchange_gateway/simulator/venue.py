"""The exchange's rules as a pure state machine: inputs and times in, numbered reports out.

No clock, no I/O: the same inputs in the same order give the same bytes. Everything a request changes is in the reports
it returns, so a journal of them rebuilds the venue.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping

from exchange_gateway.simulator.book import MARKET_MAKER, Book, Fill
from exchange_gateway.simulator.messages import (
    Cancel,
    ExecType,
    NewOrder,
    Numbered,
    OrdStatus,
    Replace,
    Report,
    VenueError,
    exchange_order_id,
    order_number,
)
from exchange_gateway.simulator.order import Order
from infra.contracts import Instrument, Reason, encode

QUANTITY_MAX = 1_000_000
_ENDS: Mapping[ExecType, OrdStatus] = {"CANCELED": "CANCELED", "REJECTED": "REJECTED", "EXPIRED": "EXPIRED"}

TOO_LATE = Reason("too_late", "The order is not live, or that quantity is filled already.")
UNKNOWN_ORDER = Reason("unknown_order", "No order of this venue has that ClOrdID.")
UNKNOWN_SYMBOL = Reason("unknown_symbol", "The symbol is not listed here.")
BAD_QUANTITY = Reason("bad_quantity", f"Quantities are whole shares from 1 to {QUANTITY_MAX}.")
BAD_PRICE = Reason("bad_price", "A limit price is positive.")
BAD_TICK = Reason("bad_tick", "The limit price is not a multiple of the tick size.")
MARKET_CLOSED = Reason("market_closed", "Only GTC LIMIT orders are taken while the market is closed.")
NO_LIQUIDITY = Reason("no_liquidity", "Nothing stands on the other side of the book.")
IOC_REST = Reason("ioc_rest", "The rest could not be filled at once.")
UNSOLICITED = Reason("unsolicited", "The book ran out before the market order was filled.")
FOK_UNFILLED = Reason("fok_unfilled", "The order could not be filled at once and in full.")
SESSION_CLOSED = Reason("session_closed", "A DAY order ends with its session.")


class Venue:
    """All books, orders and ClOrdIDs of the exchange. `session` is the current one, or the last one while closed."""

    def __init__(self) -> None:
        self.session = 0
        self.is_open = False
        self.last_n = 0
        self.last_number = 0
        self.instruments: Mapping[str, Instrument] = {}
        self._books: defaultdict[str, Book] = defaultdict(Book)
        self._orders: dict[int, Order] = {}
        self._numbers: list[int] = []  # of all orders, rising: the page index of the mass status
        self._by_id: dict[str, Order] = {}
        self._live: dict[int, Order] = {}
        self._executions: list[tuple[int, int, bytes]] = []  # (drop-copy number, order number, report) of every fill
        self._now_ns = 0
        self._out: list[Numbered] = []

    # -- sessions ------------------------------------------------------------------------------------------------------

    def assign_session(self, session: int) -> None:
        """Name the session that is about to open; reports carry it from now on."""
        assert session > self.session, "a session number never comes again"
        assert not self.is_open
        self.session = session

    def open(self, instruments: Mapping[str, Instrument], now_ns: int) -> list[Numbered]:
        """Open the market. Orders taken while it was closed meet in their time order."""
        assert not self.is_open
        self._begin(now_ns)
        self.is_open, self.instruments = True, instruments
        for order in sorted(self._live.values(), key=lambda o: o.stamp):
            self._trade_and_rest(order)
        return self._out

    def close(self, now_ns: int) -> list[Numbered]:
        """Close the market: DAY orders expire, GTC orders wait for the next open, the market maker leaves."""
        assert self.is_open
        self.is_open = False
        return self.expire_day_orders(now_ns)

    def expire_day_orders(self, now_ns: int) -> list[Numbered]:
        """Also called when a venue comes back whose session was broken."""
        self._begin(now_ns)
        for order in [o for o in self._live.values() if o.terms.tif == "DAY"]:
            self._emit(order, "EXPIRED", reason=SESSION_CLOSED)
        self._books.clear()
        return self._out

    # -- order entry ---------------------------------------------------------------------------------------------------

    def submit(self, terms: NewOrder, now_ns: int) -> list[Numbered]:
        """Take a new order. Raises VenueError for a ClOrdID that was used before."""
        self._fresh(terms.cl_ord_id)
        self._begin(now_ns)
        order = self._enter(self.last_number + 1, terms, self.session)
        if refusal := self._refusal(terms):
            self._emit(order, "REJECTED", reason=refusal)
            return self._out
        self._emit(order, "NEW")
        if self.is_open:
            self._trade_and_rest(order)
        return self._out

    def cancel(self, orig_cl_ord_id: str, request: Cancel, now_ns: int) -> list[Numbered]:
        self._fresh(request.cl_ord_id)
        self._begin(now_ns)
        order = self._by_id.get(orig_cl_ord_id)
        if order is None or not order.live:
            self._cancel_reject(order, orig_cl_ord_id, request.cl_ord_id, TOO_LATE if order else UNKNOWN_ORDER)
            return self._out
        self._out_of_book(order)
        self._emit(order, "CANCELED", cl_ord_id=request.cl_ord_id)
        return self._out

    def replace(self, orig_cl_ord_id: str, request: Replace, now_ns: int) -> list[Numbered]:
        self._fresh(request.cl_ord_id)
        self._begin(now_ns)
        order = self._by_id.get(orig_cl_ord_id)
        refusal = self._replace_refusal(order, request)
        if order is None or refusal:
            self._cancel_reject(order, orig_cl_ord_id, request.cl_ord_id, refusal or UNKNOWN_ORDER)
            return self._out
        stamp = order.stamp
        quantity = order.quantity if request.quantity is None else request.quantity
        limit = order.limit_micros if request.limit_micros is None else request.limit_micros
        self._emit(order, "REPLACED", cl_ord_id=request.cl_ord_id, quantity=quantity, limit_micros=limit)
        book = self._books[order.terms.symbol]
        if order.stamp == stamp and order.number in book:
            book.shrink(order.number, order.open_qty)
        elif self.is_open:
            self._out_of_book(order)
            self._trade_and_rest(order)
        return self._out

    # -- the tape ------------------------------------------------------------------------------------------------------

    def quote(self, symbol: str, bid: int, bid_size: int, ask: int, ask_size: int, now_ns: int) -> list[Numbered]:
        """The market maker's new quote."""
        fills = self._books[symbol].quote(bid, bid_size, ask, ask_size, self.last_n)
        return self._fills(fills, now_ns) if fills else []

    def trade(self, symbol: str, price_micros: int, size: int, now_ns: int) -> list[Numbered]:
        """A print of the tape."""
        fills = self._books[symbol].trade(price_micros, size)
        return self._fills(fills, now_ns) if fills else []

    # -- questions -----------------------------------------------------------------------------------------------------

    def find(self, cl_ord_id: str) -> Order | None:
        return self._by_id.get(cl_ord_id)

    def total(self) -> int:
        return len(self._numbers)

    def page(self, after: int, limit: int) -> list[Order]:
        """Orders by number, those above `after`."""
        start = bisect.bisect_right(self._numbers, after)
        return [self._orders[number] for number in self._numbers[start : start + limit]]

    def executions(self) -> int:
        return len(self._executions)

    def executions_page(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """(drop-copy number, report) of fills, those above `after`."""
        start = bisect.bisect_right(self._executions, after, key=lambda fill: fill[0])
        return [(n, body) for n, _, body in self._executions[start : start + limit]]

    # -- memory --------------------------------------------------------------------------------------------------------

    def enter_again(self, number: int, terms: NewOrder, session: int) -> bool:
        """Take in an order of an earlier life; False when it is known already."""
        if number in self._orders:
            return False
        self._enter(number, terms, session)
        return True

    def absorb_again(self, numbered: Numbered) -> bool:
        """Take in a report of an earlier life; False when its order is not known (yet)."""
        self.last_n = max(self.last_n, numbered.n)
        self.session = max(self.session, numbered.report.session)
        if numbered.report.exchange_order_id is None:
            return True
        order = self._orders.get(order_number(numbered.report.exchange_order_id))
        if order is not None:
            self._absorb(order, numbered)
        return order is not None

    def settle(self, session: int, last_n: int, last_number: int) -> None:
        """End of taking in: what the journal's heads say was reached, and the indexes in their order."""
        self.session, self.last_n = max(self.session, session), max(self.last_n, last_n)
        self.last_number = max(self.last_number, last_number)
        self._orders = dict(sorted(self._orders.items()))
        self._numbers = list(self._orders)
        self._executions.sort()

    def forget(self, upto_n: int) -> list[Order]:
        """Drop ended orders whose last report is no longer kept; their ClOrdIDs are free again.

        Returns the orders that stay although their first reports are dropped: they must be carried over.
        """
        for order in [o for o in self._orders.values() if not o.live and o.last_n <= upto_n]:
            del self._orders[order.number]
            for cl_ord_id in order.ids:
                del self._by_id[cl_ord_id]
        self._numbers = list(self._orders)
        self._executions = [fill for fill in self._executions if fill[1] in self._orders]
        return [o for o in self._orders.values() if o.reports[0][0] <= upto_n]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _begin(self, now_ns: int) -> None:
        self._now_ns, self._out = now_ns, []

    def _fresh(self, cl_ord_id: str) -> None:
        if cl_ord_id in self._by_id:
            raise VenueError(409, "duplicate_cl_ord_id", f"ClOrdID {cl_ord_id} was used before.")

    def _enter(self, number: int, terms: NewOrder, session: int) -> Order:
        order = Order(number, terms, session)
        self.last_number = max(self.last_number, number)
        self._orders[number] = order
        self._numbers.append(number)
        self._by_id[terms.cl_ord_id] = order
        return order

    def _refusal(self, terms: NewOrder) -> Reason | None:
        """Why a new order is refused, the cheapest question first."""
        if terms.symbol not in self.instruments:
            return UNKNOWN_SYMBOL
        if refusal := self._bad_values(terms.symbol, terms.quantity, terms.limit_micros):
            return refusal
        if not self.is_open and (terms.tif != "GTC" or terms.ord_type == "MARKET"):
            return MARKET_CLOSED
        if terms.ord_type == "MARKET" and not self._books[terms.symbol].available(terms.side, None, 1):
            return NO_LIQUIDITY
        return None

    def _replace_refusal(self, order: Order | None, request: Replace) -> Reason | None:
        if order is None:
            return UNKNOWN_ORDER
        if not order.live or (request.quantity is not None and 0 < request.quantity <= order.cum_qty):
            return TOO_LATE
        quantity = order.quantity if request.quantity is None else request.quantity
        return self._bad_values(order.terms.symbol, quantity, request.limit_micros)

    def _bad_values(self, symbol: str, quantity: int, limit_micros: int | None) -> Reason | None:
        if not 1 <= quantity <= QUANTITY_MAX:
            return BAD_QUANTITY
        if limit_micros is None:
            return None
        if limit_micros <= 0:
            return BAD_PRICE
        instrument = self.instruments.get(symbol)
        return BAD_TICK if instrument and limit_micros % instrument.tick_micros else None

    def _trade_and_rest(self, order: Order) -> None:
        """Match what is open of a live order now; rest or end what is left."""
        terms, book = order.terms, self._books[order.terms.symbol]
        limit = order.limit_micros
        if terms.tif == "FOK" and book.available(terms.side, limit, order.open_qty) < order.open_qty:
            self._emit(order, "CANCELED", reason=FOK_UNFILLED)
            return
        self._report_fills(book.take(terms.side, order.number, order.open_qty, limit))
        if not order.live:
            return
        if limit is None:
            self._emit(order, "CANCELED", reason=UNSOLICITED)
        elif terms.tif == "IOC":
            self._emit(order, "CANCELED", reason=IOC_REST)
        else:
            book.rest(terms.side, order.number, order.open_qty, limit, order.stamp)

    def _out_of_book(self, order: Order) -> None:
        book = self._books[order.terms.symbol]
        if order.number in book:
            book.remove(order.number)

    def _fills(self, fills: list[Fill], now_ns: int) -> list[Numbered]:
        self._begin(now_ns)
        self._report_fills(fills)
        return self._out

    def _report_fills(self, fills: Iterable[Fill]) -> None:
        for fill in fills:
            for number in (fill.taker, fill.maker):
                if number != MARKET_MAKER:
                    self._emit(self._orders[number], "TRADE", last_qty=fill.quantity, last_micros=fill.price_micros)

    def _emit(
        self,
        order: Order,
        exec_type: ExecType,
        *,
        cl_ord_id: str | None = None,
        quantity: int | None = None,
        limit_micros: int | None = None,
        last_qty: int = 0,
        last_micros: int = 0,
        reason: Reason | None = None,
    ) -> None:
        """Report one change of an order, and make it. A request other than the submit names its own ClOrdID."""
        total = order.quantity if quantity is None else quantity
        cum_qty = order.cum_qty + last_qty
        assert not last_qty or cum_qty <= total, "an order is never filled beyond its quantity"
        ended = _ENDS.get(exec_type)
        working: OrdStatus = "FILLED" if cum_qty == total else "PARTIALLY_FILLED" if cum_qty else "NEW"
        self._publish(
            order,
            kind="execution",
            exec_type=exec_type,
            order_status=ended or working,
            cl_ord_id=cl_ord_id or order.cl_ord_id,
            orig_cl_ord_id=order.cl_ord_id if cl_ord_id else None,
            quantity=total,
            limit_micros=order.limit_micros if limit_micros is None else limit_micros,
            last_qty=last_qty,
            last_micros=last_micros,
            cum_qty=cum_qty,
            leaves_qty=0 if ended else total - cum_qty,
            reason=reason,
        )

    def _cancel_reject(self, order: Order | None, orig_cl_ord_id: str, cl_ord_id: str, reason: Reason) -> None:
        """The order, if there is one, stays as it is."""
        self._publish(
            order,
            kind="cancel_reject",
            exec_type=None,
            order_status=(order and order.status) or "REJECTED",
            cl_ord_id=cl_ord_id,
            orig_cl_ord_id=order.cl_ord_id if order else orig_cl_ord_id,
            quantity=order.quantity if order else 0,
            limit_micros=order.limit_micros if order else None,
            cum_qty=order.cum_qty if order else 0,
            leaves_qty=order.open_qty if order and order.live else 0,
            reason=reason,
        )

    def _publish(self, order: Order | None, **fields: object) -> None:
        self.last_n += 1
        report = Report(
            exec_id=f"{self.session}-{self.last_n}",
            exchange_order_id=exchange_order_id(order.number) if order else None,
            symbol=order.terms.symbol if order else None,
            side=order.terms.side if order else None,
            venue_seq=order.venue_seq + 1 if order else 0,
            transact_ns=self._now_ns,
            session=self.session,
            **fields,  # type: ignore[arg-type]
        )
        numbered = Numbered(self.last_n, report, encode(report))
        self._out.append(numbered)
        if order is not None:
            self._absorb(order, numbered)

    def _absorb(self, order: Order, numbered: Numbered) -> None:
        order.absorb(numbered)
        if numbered.report.exec_type == "TRADE":
            self._executions.append((numbered.n, order.number, numbered.body))
        self._by_id[numbered.report.cl_ord_id] = order
        if order.live:
            self._live[order.number] = order
        else:
            self._live.pop(order.number, None)
