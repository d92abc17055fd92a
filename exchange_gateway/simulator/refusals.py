"""Why the venue refuses or ends something: the codes of docs/venue-api.md with their sentences."""

from __future__ import annotations

from infra.contracts import Reason

QUANTITY_MAX = 1_000_000

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
HALTED = Reason("halted", "The symbol is halted; what rests may be canceled.")
BUSTED = Reason("busted", "A fill was taken back; the order had ended and stays so.")
