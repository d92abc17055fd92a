"""Short words for orders, venues and books in these tests. Prices are cents, so that tables stay readable."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from exchange_gateway.simulator.messages import Cancel, NewOrder, Numbered, Replace, Report
from exchange_gateway.simulator.venue import Venue
from infra.contracts import Instrument

CENT = 10_000
SESSION = 1_700_000_000
NOW = SESSION * 1_000_000_000
LISTED = {s: Instrument(s, f"{s} Inc.", CENT, 1, SESSION) for s in ("AAA", "BBB")}


class Floor:
    """A venue with an open market, and the requests of its clients with ids of their own."""

    def __init__(self, is_open: bool = True) -> None:
        self.venue = Venue()
        self.ids = (f"c-{n}" for n in itertools.count(1))
        self.all: list[Numbered] = []
        self.venue.assign_session(SESSION)
        if is_open:
            self.open()

    def open(self) -> list[Report]:
        return self.told(self.venue.open(LISTED, NOW))

    def close(self) -> list[Report]:
        return self.told(self.venue.close(NOW))

    def quote(self, bid: int, bid_size: int, ask: int, ask_size: int, symbol: str = "AAA") -> list[Report]:
        return self.told(self.venue.quote(symbol, bid * CENT, bid_size, ask * CENT, ask_size, NOW))

    def trade(self, price: int, size: int, symbol: str = "AAA") -> list[Report]:
        return self.told(self.venue.trade(symbol, price * CENT, size, NOW))

    def order(self, words: str, cl_ord_id: str = "", symbol: str = "AAA") -> list[Report]:
        """`BUY 100 @ 1000 [DAY|GTC|IOC|FOK]` or `SELL 100 MARKET`."""
        return self.told(self.venue.submit(terms(words, cl_ord_id or next(self.ids), symbol), NOW))

    def cancel(self, orig: str, cl_ord_id: str = "") -> list[Report]:
        return self.told(self.venue.cancel(orig, Cancel(cl_ord_id=cl_ord_id or next(self.ids)), NOW))

    def replace(self, orig: str, quantity: int | None, price: int | None, cl_ord_id: str = "") -> list[Report]:
        limit = None if price is None else price * CENT
        request = Replace(cl_ord_id=cl_ord_id or next(self.ids), quantity=quantity, limit_micros=limit)
        return self.told(self.venue.replace(orig, request, NOW))

    def told(self, reports: list[Numbered]) -> list[Report]:
        self.all += reports
        return [r.report for r in reports]


def terms(words: str, cl_ord_id: str = "c-1", symbol: str = "AAA") -> NewOrder:
    side, quantity, *rest = words.split()
    is_market = rest[0] == "MARKET"
    tail = rest[1:] if is_market else rest[2:]
    values: dict[str, Any] = {
        "cl_ord_id": cl_ord_id,
        "symbol": symbol,
        "side": side,
        "ord_type": "MARKET" if is_market else "LIMIT",
        "tif": tail[0] if tail else "DAY",
        "quantity": int(quantity),
        "limit_micros": None if is_market else int(rest[1]) * CENT,
    }
    return msgspec.convert(values, NewOrder)


def brief(reports: list[Report]) -> list[str]:
    """`NEW c-1`, `TRADE c-1 50@1000`, `CANCELED c-1 ioc_rest`, `cancel_reject c-2 too_late`."""
    return [_brief(report) for report in reports]


def _brief(report: Report) -> str:
    words = [report.exec_type or report.kind, report.cl_ord_id]
    if report.last_qty:
        words.append(f"{report.last_qty}@{report.last_micros // CENT}")
    if report.reason:
        words.append(report.reason.code)
    return " ".join(words)
