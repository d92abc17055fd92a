"""What the venue remembers: its orders, all their ClOrdIDs, and its executions, with the questions that clients ask.

Everything here is a fold of reports (:meth:`Order.absorb`), so a journal of them rebuilds it.
"""

from __future__ import annotations

import bisect

from exchange_gateway.simulator.messages import NewOrder, Numbered, VenueError, order_number
from exchange_gateway.simulator.order import Order
from infra.contracts import encode

N_DIGITS_MAX = 20
EXECUTIONS = frozenset({"TRADE", "TRADE_CANCEL", "TRADE_CORRECT"})


class Records:
    """`session` is the current one, or the last one while closed; `last_n` is the number of the newest report."""

    def __init__(self) -> None:
        self.session = 0
        self.last_n = 0
        self.last_number = 0
        self._orders: dict[int, Order] = {}
        self._numbers: list[int] = []  # of all orders, rising: the page index of the mass status
        self._by_id: dict[str, Order] = {}
        self._live: dict[int, Order] = {}
        # (drop-copy number, order number, report) of every fill, bust and correction
        self._executions: list[tuple[int, int, bytes]] = []

    # -- questions -----------------------------------------------------------------------------------------------------

    def find(self, cl_ord_id: str) -> Order | None:
        return self._by_id.get(cl_ord_id)

    def symbols_of(self, cl_ord_id: str) -> list[str]:
        order = self._by_id.get(cl_ord_id)
        return [order.terms.symbol] if order else []

    def told_of(self, cl_ord_id: str) -> bytes:
        """The order and all its reports, as JSON. Raises VenueError when it is not known."""
        order = self._by_id.get(cl_ord_id)
        if order is None:
            raise VenueError(404, "unknown_order", f"No order of this venue has the ClOrdID {cl_ord_id}.")
        reports = b",".join(body for _, body in order.reports)
        return b'{"order":%b,"reports":[%b]}' % (encode(order.state()), reports)

    def orders_answer(self, after: int, limit: int) -> bytes:
        """A page of the mass status, as JSON."""
        page = self.page(after, limit)
        upto = page[-1].number if page else after
        orders = encode([order.state() for order in page])
        return b'{"total":%d,"orders":%b,"next":%b}' % (self.total(), orders, _next(upto, bool(self.page(upto, 1))))

    def executions_answer(self, after: int, limit: int) -> bytes:
        """A page of the executions, as JSON."""
        page = self.executions_page(after, limit)
        upto = page[-1][0] if page else after
        more = bool(self.executions_page(upto, 1))
        reports = b",".join(body for _, body in page)
        return b'{"total":%d,"reports":[%b],"next":%b}' % (self.executions(), reports, _next(upto, more))

    def total(self) -> int:
        return len(self._numbers)

    def page(self, after: int, limit: int) -> list[Order]:
        """Orders by number, those above `after`."""
        start = bisect.bisect_right(self._numbers, after)
        return [self._orders[number] for number in self._numbers[start : start + limit]]

    def executions(self) -> int:
        return len(self._executions)

    def executions_page(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """(drop-copy number, report) of fills, busts and corrections, those above `after`."""
        start = bisect.bisect_right(self._executions, after, key=lambda fill: fill[0])
        return [(n, body) for n, _, body in self._executions[start : start + limit]]

    def fill(self, exec_id: str) -> tuple[Order, int, int]:
        """The order of a fill, and the fill's quantity and price as they stand now. Raises VenueError."""
        digits = exec_id.rpartition("-")[2]
        n = int(digits) if digits.isdecimal() and len(digits) < N_DIGITS_MAX else 0
        place = bisect.bisect_left(self._executions, n, key=lambda fill: fill[0])
        for _, number, _ in self._executions[place : place + 1]:
            terms = self._orders[number].fills().get(exec_id)
            if terms == (0, 0):
                raise VenueError(409, "busted", f"The fill {exec_id} was busted before.")
            if terms is not None:
                return self._orders[number], *terms
        raise VenueError(404, "unknown_execution", f"No fill of this venue has the ExecID {exec_id}.")

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

    def _enter(self, number: int, terms: NewOrder, session: int) -> Order:
        order = Order(number, terms, session)
        self.last_number = max(self.last_number, number)
        self._orders[number] = order
        self._numbers.append(number)
        self._by_id[terms.cl_ord_id] = order
        return order

    def _absorb(self, order: Order, numbered: Numbered) -> None:
        order.absorb(numbered)
        if numbered.report.exec_type in EXECUTIONS:
            self._executions.append((numbered.n, order.number, numbered.body))
        self._by_id[numbered.report.cl_ord_id] = order
        if order.live:
            self._live[order.number] = order
        else:
            self._live.pop(order.number, None)


def _next(upto: int, more: bool) -> bytes:
    return b"%d" % upto if more else b"null"
