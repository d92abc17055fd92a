"""What a request about an order says by itself, in the domain's types, or what is wrong with its shape: pure.

Only shape is looked at here, so that a repeated request is recognised even while the market's data is away. Whether
the order may be placed is asked in `risk`.
"""

from __future__ import annotations

from decimal import Decimal

from order_service.domain import reasons
from order_service.domain.money import NotRepresentableError, micros_of
from order_service.domain.order import SIDES, TIFS, TYPES, Ticket
from order_service.domain.reasons import Fault

SHOWN_CHARACTERS_MAX = 40
# Types that wait for a price before they are sent: we would have to hold them ourselves.
HELD_TYPES = frozenset({"STOP", "STOP_LIMIT", "TRAILING_STOP", "TRAILING_STOP_LIMIT", "TAKE_PROFIT", "OCO", "BRACKET"})
_MICRO = Decimal("0.000001")


def ticket(
    order_type: str, type_: str, symbol: str, quantity: int | float, amount: Decimal | None, tif: str
) -> Ticket | Fault:
    """The request in the domain's types, or what is wrong with it."""
    if order_type not in SIDES:
        return Fault(reasons.SIDE_UNKNOWN, "orderType", {"value": shown(order_type)})
    if type_ not in TYPES:
        held = type_.upper() in HELD_TYPES
        return Fault(reasons.TYPE_HELD if held else reasons.TYPE_UNSUPPORTED, "type", {"value": shown(type_)})
    if tif not in TIFS:
        return Fault(reasons.TIF_UNSUPPORTED, "timeInForce", {"value": shown(tif)})
    if isinstance(shares := shares_of(quantity), Fault):
        return shares
    micros: int | None = None
    if type_ == "LIMIT":
        if amount is None:
            return Fault(reasons.AMOUNT_REQUIRED, "amount")
        if isinstance(found := limit_of(amount), Fault):
            return found
        micros = found
    elif amount is not None:
        return Fault(reasons.AMOUNT_REFUSED, "amount", {"amount": shown(str(amount))})
    return Ticket(order_type, type_, symbol, shares, micros, tif)


def terms(quantity: int | float | None, amount: Decimal | None) -> tuple[int | None, int | None] | Fault:
    """New terms for an order: its quantity and its limit price in micros, None for what shall stay."""
    if quantity is None and amount is None:
        return Fault(reasons.REPLACE_EMPTY, "body")
    shares = None if quantity is None else shares_of(quantity)
    if isinstance(shares, Fault):
        return shares
    micros = None if amount is None else limit_of(amount)
    return micros if isinstance(micros, Fault) else (shares, micros)


def shares_of(quantity: int | float) -> int | Fault:
    if isinstance(quantity, float) and not quantity.is_integer():
        return Fault(reasons.QUANTITY_NOT_WHOLE, "quantity", {"quantity": shown(str(quantity))})
    if quantity < 1:
        return Fault(reasons.QUANTITY_TOO_SMALL, "quantity", {"quantity": shown(str(quantity))})
    return int(quantity)


def limit_of(amount: Decimal) -> int | Fault:
    """A limit price in micros."""
    if not amount.is_finite() or amount <= 0:
        return Fault(reasons.AMOUNT_INVALID, "amount", {"amount": shown(str(amount))})
    try:
        return micros_of(amount)
    except NotRepresentableError:
        details = {"amount": shown(str(amount)), "tick": f"{_MICRO:f}"}
        code = reasons.AMOUNT_OFF_TICK if amount.adjusted() < 12 else reasons.AMOUNT_INVALID
        return Fault(code, "amount", details)


def shown(text: str) -> str:
    """A client's words in an answer: bounded."""
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"
