"""The exchange's rules as a pure state machine: inputs and times in, numbered reports out.

No clock, no I/O: the same inputs in the same order give the same bytes. Everything a request changes is in the reports
it returns, so a journal of them rebuilds the venue.
"""

from __future__ import annotations

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
)
from exchange_gateway.simulator.order import Order
from exchange_gateway.simulator.records import Records
from exchange_gateway.simulator.refusals import (
    BAD_PRICE,
    BAD_QUANTITY,
    BAD_TICK,
    BUSTED,
    FOK_UNFILLED,
    HALTED,
    IOC_REST,
    MARKET_CLOSED,
    NO_LIQUIDITY,
    QUANTITY_MAX,
    SESSION_CLOSED,
    TOO_LATE,
    UNKNOWN_ORDER,
    UNKNOWN_SYMBOL,
    UNSOLICITED,
)
from infra.contracts import Instrument, Reason, encode

_ENDS: Mapping[ExecType, OrdStatus] = {"CANCELED": "CANCELED", "REJECTED": "REJECTED", "EXPIRED": "EXPIRED"}


class Venue(Records):
    """All books, orders and ClOrdIDs of the exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False
        self.instruments: Mapping[str, Instrument] = {}
        self._books: defaultdict[str, Book] = defaultdict(Book)
        self._halted: set[str] = set()
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
        self._halted.clear()
        return self._out

    def halt(self, symbol: str) -> None:
        """Nothing of the symbol trades until it is resumed or the session ends; its orders rest where they are."""
        self._listed(symbol)
        if not self.is_open:
            raise VenueError(409, "market_closed", "A symbol is halted within a session.")
        self._halted.add(symbol)
        self._books[symbol].quote(0, 0, 0, 0, self.last_n)

    def resume(self, symbol: str) -> bool:
        """The market maker comes back with the symbol's next quote. False when the symbol was not halted (any more)."""
        if symbol not in self._halted:
            return False
        self._halted.discard(symbol)
        return True

    def book(self, symbol: str) -> Book:
        """The book as it stands; an empty one for a symbol without interest."""
        return self._books[symbol]

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
            book.resize(order.number, order.open_qty)
        elif self.is_open:
            self._out_of_book(order)
            self._trade_and_rest(order)
        return self._out

    # -- the tape ------------------------------------------------------------------------------------------------------

    def quote(self, symbol: str, bid: int, bid_size: int, ask: int, ask_size: int, now_ns: int) -> list[Numbered]:
        """The market maker's new quote."""
        if symbol in self._halted:
            return []
        fills = self._books[symbol].quote(bid, bid_size, ask, ask_size, self.last_n)
        return self._fills(fills, now_ns) if fills else []

    def trade(self, symbol: str, price_micros: int, size: int, now_ns: int) -> list[Numbered]:
        """A print of the tape."""
        if symbol in self._halted:
            return []
        fills = self._books[symbol].trade(price_micros, size)
        return self._fills(fills, now_ns) if fills else []

    # -- what should not happen ----------------------------------------------------------------------------------------

    def bust(self, exec_id: str, now_ns: int) -> list[Numbered]:
        """Take a fill back. Its quantity is open again in a live order; an order that had ended stays ended."""
        order, quantity, micros = self.fill(exec_id)
        self._begin(now_ns)
        self._restate(order, "TRADE_CANCEL", exec_id, quantity, micros, order.cum_qty - quantity)
        return self._out

    def correct(self, exec_id: str, quantity: int, micros: int, now_ns: int) -> list[Numbered]:
        """Give a fill its right quantity and price. Less quantity is a bust in part."""
        order, was, _ = self.fill(exec_id)
        if not (1 <= quantity <= QUANTITY_MAX and micros > 0):
            raise VenueError(400, "malformed", "A corrected fill has a positive quantity and price.")
        self._begin(now_ns)
        self._restate(order, "TRADE_CORRECT", exec_id, quantity, micros, order.cum_qty - was + quantity)
        return self._out

    def overfill(self, cl_ord_id: str, beyond: int, micros: int, now_ns: int) -> list[Numbered]:
        """Fill an order, live or ended, with `beyond` more shares than were ordered. Raises VenueError."""
        order = self.find(cl_ord_id)
        if order is None:
            raise VenueError(404, "unknown_order", UNKNOWN_ORDER.text)
        self._begin(now_ns)
        self._out_of_book(order)
        self._emit(order, "TRADE", last_qty=max(order.open_qty, 0) + beyond, last_micros=micros)
        return self._out

    def stray(self, terms: NewOrder, micros: int, now_ns: int) -> list[Numbered]:
        """Fill an order that nobody sent: it begins with its fill. Raises VenueError."""
        self._listed(terms.symbol)
        self._fresh(terms.cl_ord_id)
        self._begin(now_ns)
        order = self._enter(self.last_number + 1, terms, self.session)
        self._emit(order, "TRADE", last_qty=terms.quantity, last_micros=micros)
        return self._out

    # -- inside --------------------------------------------------------------------------------------------------------

    def _begin(self, now_ns: int) -> None:
        self._now_ns, self._out = now_ns, []

    def _fresh(self, cl_ord_id: str) -> None:
        if cl_ord_id in self._by_id:
            raise VenueError(409, "duplicate_cl_ord_id", f"ClOrdID {cl_ord_id} was used before.")

    def _refusal(self, terms: NewOrder) -> Reason | None:
        """Why a new order is refused, the cheapest question first."""
        if terms.symbol not in self.instruments:
            return UNKNOWN_SYMBOL
        if terms.symbol in self._halted:
            return HALTED
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
        if order.terms.symbol in self._halted:
            return HALTED
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

    def _listed(self, symbol: str) -> None:
        if symbol not in self.instruments:
            raise VenueError(404, "unknown_symbol", UNKNOWN_SYMBOL.text)

    def _restate(
        self, order: Order, exec_type: ExecType, exec_ref_id: str, quantity: int, micros: int, cum_qty: int
    ) -> None:
        """Report other terms of an earlier fill. A live order keeps its place in the book."""
        had_ended = not order.live
        self._emit(order, exec_type, exec_ref_id=exec_ref_id, last_qty=quantity, last_micros=micros, cum_qty=cum_qty)
        book = self._books[order.terms.symbol]
        if had_ended and order.live:
            self._emit(order, "CANCELED", reason=BUSTED)
        elif order.live and order.number in book:
            book.resize(order.number, order.open_qty)
        else:
            self._out_of_book(order)

    def _fills(self, fills: list[Fill], now_ns: int) -> list[Numbered]:
        self._begin(now_ns)
        self._report_fills(fills)
        return self._out

    def _report_fills(self, fills: Iterable[Fill]) -> None:
        for fill in fills:
            for number in (fill.taker, fill.maker):
                if number != MARKET_MAKER:
                    assert fill.quantity <= self._orders[number].open_qty, "the book never overfills"
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
        cum_qty: int | None = None,
        exec_ref_id: str | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Report one change of an order, and make it. A request other than the submit names its own ClOrdID."""
        total = order.quantity if quantity is None else quantity
        cum_qty = order.cum_qty + last_qty if cum_qty is None else cum_qty
        # An end holds whatever becomes of the fills; FILLED is one of them and follows from the quantities.
        ended = _ENDS.get(exec_type) or (order.status if order.status in _ENDS.values() else None)
        working: OrdStatus = "FILLED" if cum_qty >= total else "PARTIALLY_FILLED" if cum_qty else "NEW"
        self._publish(
            order,
            kind="execution",
            exec_type=exec_type,
            exec_ref_id=exec_ref_id,
            order_status=ended or working,
            cl_ord_id=cl_ord_id or order.cl_ord_id,
            orig_cl_ord_id=order.cl_ord_id if cl_ord_id else None,
            quantity=total,
            limit_micros=order.limit_micros if limit_micros is None else limit_micros,
            last_qty=last_qty,
            last_micros=last_micros,
            cum_qty=cum_qty,
            leaves_qty=0 if ended else max(total - cum_qty, 0),
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
