"""Whether an order may be placed: pure, cheapest first, each refusal with its own code and the numbers that decided.

Two steps. `ticket` checks what the request says by itself, so that a repeated request can be recognised even while the
market's data is away; `listed` checks it against the market.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from order_service.domain import reasons
from order_service.domain.money import NotRepresentableError, micros_of, text_of
from order_service.domain.order import SIDES, TIFS, TYPES, Ticket
from order_service.domain.reasons import Fault

SHOWN_CHARACTERS_MAX = 40
_MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Listing:
    """What the exchange demands of orders in one symbol."""

    symbol: str
    tick_micros: int
    lot: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one order may be."""

    quantity_max: int
    notional_max_micros: int


def ticket(
    order_type: str, type_: str, symbol: str, quantity: int | float, amount: Decimal | None, tif: str
) -> Ticket | Fault:
    """The request in the domain's types, or what is wrong with it."""
    if order_type not in SIDES:
        return Fault(reasons.SIDE_UNKNOWN, "orderType", {"value": shown(order_type)})
    if type_ not in TYPES:
        return Fault(reasons.TYPE_UNSUPPORTED, "type", {"value": shown(type_)})
    if tif not in TIFS:
        return Fault(reasons.TIF_UNSUPPORTED, "timeInForce", {"value": shown(tif)})
    if isinstance(quantity, float) and not quantity.is_integer():
        return Fault(reasons.QUANTITY_NOT_WHOLE, "quantity", {"quantity": shown(str(quantity))})
    if quantity < 1:
        return Fault(reasons.QUANTITY_TOO_SMALL, "quantity", {"quantity": shown(str(quantity))})
    micros: int | None = None
    if type_ == "LIMIT":
        if amount is None:
            return Fault(reasons.AMOUNT_REQUIRED, "amount")
        found = _limit(amount)
        if isinstance(found, Fault):
            return found
        micros = found
    elif amount is not None:
        return Fault(reasons.AMOUNT_REFUSED, "amount", {"amount": shown(str(amount))})
    return Ticket(order_type, type_, symbol, int(quantity), micros, tif)


def listed(wanted: Ticket, listing: Listing | None, limits: Limits) -> Fault | None:
    """What the market and the house's limits say against it; None when nothing does."""
    if listing is None:
        return Fault(reasons.SYMBOL_UNKNOWN, "symbol", {"symbol": shown(wanted.symbol)})
    if wanted.quantity > limits.quantity_max:
        details = {"quantity": shown(str(wanted.quantity)), "max": limits.quantity_max}
        return Fault(reasons.QUANTITY_TOO_LARGE, "quantity", details)
    if wanted.quantity % listing.lot:
        return Fault(reasons.QUANTITY_OFF_LOT, "quantity", {"quantity": wanted.quantity, "lot": listing.lot})
    if wanted.amount_micros is None:
        return None
    if wanted.amount_micros % listing.tick_micros:
        amount, tick = text_of(wanted.amount_micros), text_of(listing.tick_micros)
        return Fault(reasons.AMOUNT_OFF_TICK, "amount", {"amount": amount, "tick": tick})
    notional = wanted.quantity * wanted.amount_micros
    if notional > limits.notional_max_micros:
        most = text_of(limits.notional_max_micros)
        return Fault(reasons.NOTIONAL_TOO_LARGE, "amount", {"notional": text_of(notional), "max": most})
    return None


def shown(text: str) -> str:
    """A client's words in an answer: bounded."""
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def _limit(amount: Decimal) -> int | Fault:
    if not amount.is_finite() or amount <= 0:
        return Fault(reasons.AMOUNT_INVALID, "amount", {"amount": shown(str(amount))})
    try:
        return micros_of(amount)
    except NotRepresentableError:
        details = {"amount": shown(str(amount)), "tick": f"{_MICRO:f}"}
        code = reasons.AMOUNT_OFF_TICK if amount.adjusted() < 12 else reasons.AMOUNT_INVALID
        return Fault(code, "amount", details)
