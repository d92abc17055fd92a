"""Whether two requests are the same request: pure. Truth is the unique (account, key) and the hash on the order row."""

from __future__ import annotations

import hashlib
import re

from order_service.domain.order import Order, Ticket

KEY_CHARACTERS_MAX = 255
_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{KEY_CHARACTERS_MAX}}}")


def valid_key(key: str) -> bool:
    """1 to 255 visible ASCII characters (draft-ietf-httpapi-idempotency-key-header)."""
    return _VISIBLE.fullmatch(key) is not None


def request_hash(ticket: Ticket) -> str:
    """SHA-256 over the request's meaning, so that 10, 10.0 and "10.00" as an amount are the same request."""
    amount = "" if ticket.amount_micros is None else str(ticket.amount_micros)
    parts = (ticket.order_type, ticket.type, ticket.symbol, str(ticket.quantity), amount, ticket.tif)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def differing(ticket: Ticket, order: Order) -> list[str]:
    """The fields, as the HTTP API calls them, in which the request differs from the one that made the order."""
    pairs = {
        "orderType": (ticket.order_type, order.order_type),
        "type": (ticket.type, order.type),
        "symbol": (ticket.symbol, order.symbol),
        "quantity": (ticket.quantity, order.quantity),
        "amount": (ticket.amount_micros, order.amount_micros),
        "timeInForce": (ticket.tif, order.tif),
    }
    return [name for name, (mine, first) in pairs.items() if mine != first]
