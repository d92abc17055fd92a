"""Small builders for tests of the order service."""

from __future__ import annotations

from typing import Any

from infra.bus import Message
from infra.clock import Ids
from infra.contracts import PRICES, Quote, Report, cl_ord_id, encode
from infra.principal import Principal
from order_service.domain.fees import FeeSchedule
from order_service.domain.order import Order, Ticket
from order_service.domain.risk import Listing, Rules
from order_service.placing.idempotency import request_hash
from order_service.placing.market import Market, Quotes
from order_service.placing.place import PlaceOrder
from order_service.store.traces import traceparent_of
from tests.stored_orders import BACK_OFFICE, INVESTOR, NOW_US, OTHER, change, new_ids, order

__all__ = ["BACK_OFFICE", "INVESTOR", "NOW_US", "OTHER", "change", "new_ids", "order"]

RULES = Rules(
    quantity_max=1_000_000,
    notional_max_micros=50_000_000 * 1_000_000,
    collar_ppm=100_000,
    stale_us=60_000_000,
    open_orders_max=1_000,
    orders_per_second_max=1_000,
    duplicate_us=0,
    short_selling=False,
    restricted=frozenset(),
    fees=FeeSchedule(1_000_000, ((0, 5_000),)),
)
LISTINGS = {
    "AAPL": Listing("AAPL", tick_micros=10_000, lot=1),
    "LOTS": Listing("LOTS", tick_micros=10_000, lot=100),
}


def quoted(bid_micros: int, ask_micros: int, symbol: str = "AAPL", at_us: int = NOW_US) -> Message:
    value = encode(Quote(symbol, 1, 1, at_us * 1000, bid_micros, 100, ask_micros, 100))
    return Message(PRICES, 0, 0, symbol.encode(), value, (), at_us // 1000)


def market(*quotes: Message, **changes: Any) -> Market:
    """An open market; the symbols of LISTINGS, AAPL at 580.20 to 580.30 unless other quotes are given."""
    known = Quotes()
    known.keep(quotes or [quoted(580_200_000, 580_300_000)])
    return Market(**{"listings": LISTINGS, "session": 1, "open": True, "quotes": known, "known": True, **changes})


def ticket(**changes: Any) -> Ticket:
    values = {"order_type": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 10, "tif": "DAY"}
    return Ticket(**{**values, "amount_micros": 580_250_000, **changes})


def request(ids: Ids, asker: Principal = INVESTOR, key: str | None = None, **changes: Any) -> PlaceOrder:
    order_id, wanted = str(ids.uuid7()), ticket(**changes)
    assert asker.account_id is not None
    hashed = request_hash(wanted)
    return PlaceOrder(asker, asker.account_id, order_id, wanted, key or order_id, hashed, traceparent_of(None, ids))


def report(of: Order | str, exec_type: str | None = None, request_number: int = 1, **changes: Any) -> Report:
    order_id = of if isinstance(of, str) else of.id
    values: dict[str, Any] = {
        "kind": "execution",
        "order_id": order_id,
        "cl_ord_id": cl_ord_id(order_id, request_number),
        "source": "webhook",
        "received_ns": NOW_US * 1000,
        "exchange_order_id": "V-1",
        "exec_type": exec_type,
        "exec_id": f"E-{changes.get('venue_seq', 0)}",
    }
    return Report(**{**values, **changes})


def fill(of: Order | str, qty: int, micros: int, venue_seq: int, **changes: Any) -> Report:
    return report(of, "TRADE", last_qty=qty, last_micros=micros, venue_seq=venue_seq, **changes)


def outcome(of: Order | str, word: str, request_number: int = 1, **changes: Any) -> Report:
    order_id = of if isinstance(of, str) else of.id
    return report(
        order_id,
        kind="send_outcome",
        outcome=word,
        request_number=request_number,
        exec_id=None,
        exchange_order_id=None,
        source="answer",
        **changes,
    )
