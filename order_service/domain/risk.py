"""Whether an order may be placed or replaced, asked of the market, the house's rules and the account: pure.

Every refusal that is not about a request's shape (`checks`) is decided here, by one small function per code over one
question. An order is refused for the first of them that says no; a preview shows them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from order_service.domain import reasons
from order_service.domain.checks import shown
from order_service.domain.fees import FeeSchedule
from order_service.domain.money import text_of
from order_service.domain.order import Ticket
from order_service.domain.reasons import Code, Fault

PPM = 1_000_000
US_PER_MS = 1_000
US_PER_S = 1_000_000


class Listing(NamedTuple):
    """What the exchange demands of orders in one symbol. `previous_close_micros` is 0 when it is unknown."""

    symbol: str
    tick_micros: int
    lot: int
    previous_close_micros: int = 0


class Quote(NamedTuple):
    """Best bid and ask, micros; 0 for a side without orders. `at_us`: when it was received."""

    bid_micros: int
    ask_micros: int
    at_us: int


class Stop(NamedTuple):
    """A kill switch that is on: `cancel_only` or `reduce_only`."""

    mode: str
    scope: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the house demands of orders, and what it charges for them."""

    quantity_max: int
    notional_max_micros: int
    collar_ppm: int
    stale_us: int
    open_orders_max: int
    orders_per_second_max: int
    duplicate_us: int
    short_selling: bool
    restricted: frozenset[str]
    fees: FeeSchedule


class Question(NamedTuple):
    """An order as it would be, and everything its checks look at.

    `needed_*` is what it would reserve beyond what it has reserved already; the cash is None when no price is known.
    `in_second` counts the account's orders of this second, `repeated_us` says how long ago the very same order was
    placed (None: it was not). `replaces`: it is no new order but new terms of one that is open.
    """

    ticket: Ticket
    rules: Rules
    now_us: int
    listing: Listing | None
    quote: Quote | None
    market_open: bool
    halted: bool
    stop: Stop | None
    account_id: int
    account_active: bool
    free_cash_micros: int
    free_shares: int
    needed_cash_micros: int | None
    needed_shares: int
    open_orders: int
    in_second: int
    repeated_us: int | None
    replaces: bool


class Check(NamedTuple):
    """`holds` says in a sentence what is true when nothing is found."""

    code: Code
    holds: str
    look: Callable[[Question], Fault | None]


def first(question: Question) -> Fault | None:
    """The first fault; None when the order may be placed."""
    for look in _LOOKS:
        if (fault := look(question)) is not None:
            return fault
    return None


def every(question: Question) -> list[tuple[Check, Fault | None]]:
    """Each check with what it found. One that cannot be decided, for want of a listing or a quote, says so."""
    return [(check, check.look(question)) for check in CHECKS]


def price_micros(ticket: Ticket, quote: Quote | None) -> int | None:
    """What a share would cost or bring: the limit, or for a MARKET order the last quote; None when there is none."""
    if ticket.amount_micros is not None:
        return ticket.amount_micros
    if quote is None:
        return None
    return (quote.ask_micros if ticket.order_type == "buy" else quote.bid_micros) or None


def reserve_micros(ticket: Ticket, quote: Quote | None, listing: Listing | None, rules: Rules) -> int | None:
    """The price per share at which a MARKET buy reserves cash: the ask and the collar, rounded up to the tick."""
    if ticket.amount_micros is not None or ticket.order_type == "sell" or quote is None or listing is None:
        return None
    bound = quote.ask_micros * (PPM + rules.collar_ppm)
    ticks = -(-bound // (PPM * listing.tick_micros))
    return ticks * listing.tick_micros or None


# -- the checks --------------------------------------------------------------------------------------------------------


def _account_active(q: Question) -> Fault | None:
    return None if q.account_active else Fault(reasons.ACCOUNT_BLOCKED, details={"account": q.account_id})


def _symbol_listed(q: Question) -> Fault | None:
    return None if q.listing is not None else _about(q, reasons.SYMBOL_UNKNOWN)


def _symbol_allowed(q: Question) -> Fault | None:
    return _about(q, reasons.SYMBOL_RESTRICTED) if q.ticket.symbol in q.rules.restricted else None


def _not_cancel_only(q: Question) -> Fault | None:
    if q.stop is None or q.stop.mode != "cancel_only":
        return None
    return Fault(reasons.CANCEL_ONLY, details={"scope": q.stop.scope, "reason": q.stop.reason})


def _reduces_if_it_must(q: Question) -> Fault | None:
    if q.stop is None or q.stop.mode != "reduce_only":
        return None
    if q.ticket.order_type == "sell":
        reduces = q.needed_shares <= max(q.free_shares, 0)
    else:
        reduces = q.replaces and q.needed_cash_micros is not None and q.needed_cash_micros <= 0
    return None if reduces else Fault(reasons.REDUCE_ONLY, details={"scope": q.stop.scope, "reason": q.stop.reason})


def _not_halted(q: Question) -> Fault | None:
    return _about(q, reasons.SYMBOL_HALTED) if q.halted else None


def _market_open(q: Question) -> Fault | None:
    if q.market_open or (q.ticket.type == "LIMIT" and q.ticket.tif == "GTC"):
        return None
    return Fault(reasons.MARKET_CLOSED, details={"type": q.ticket.type, "timeInForce": q.ticket.tif})


def _quantity_within_max(q: Question) -> Fault | None:
    if q.ticket.quantity <= q.rules.quantity_max:
        return None
    details = {"quantity": shown(str(q.ticket.quantity)), "max": q.rules.quantity_max}
    return Fault(reasons.QUANTITY_TOO_LARGE, "quantity", details)


def _whole_lots(q: Question) -> Fault | None:
    if q.listing is None:
        return _about(q, reasons.SYMBOL_UNKNOWN)
    if q.ticket.quantity % q.listing.lot == 0:
        return None
    details = {"quantity": shown(str(q.ticket.quantity)), "lot": q.listing.lot}
    return Fault(reasons.QUANTITY_OFF_LOT, "quantity", details)


def _price_on_tick(q: Question) -> Fault | None:
    if q.listing is None:
        return _about(q, reasons.SYMBOL_UNKNOWN)
    if q.ticket.amount_micros is None or q.ticket.amount_micros % q.listing.tick_micros == 0:
        return None
    details = {"amount": text_of(q.ticket.amount_micros), "tick": text_of(q.listing.tick_micros)}
    return Fault(reasons.AMOUNT_OFF_TICK, "amount", details)


def _quoted(q: Question) -> Fault | None:
    return _about(q, reasons.QUOTE_MISSING) if price_micros(q.ticket, q.quote) is None else None


def _quote_fresh(q: Question) -> Fault | None:
    if q.ticket.type != "MARKET":
        return None
    if q.quote is None:
        return _about(q, reasons.QUOTE_MISSING)
    age_us = q.now_us - q.quote.at_us
    if age_us <= q.rules.stale_us:
        return None
    details = {"symbol": q.ticket.symbol, "age_s": age_us / US_PER_S, "max_s": q.rules.stale_us / US_PER_S}
    return Fault(reasons.QUOTE_STALE, "type", details)


def _notional_within_max(q: Question) -> Fault | None:
    price = price_micros(q.ticket, q.quote)
    if price is None:
        return _about(q, reasons.QUOTE_MISSING)
    notional = q.ticket.quantity * price
    if notional <= q.rules.notional_max_micros:
        return None
    details = {"notional": shown(text_of(notional)), "max": text_of(q.rules.notional_max_micros)}
    return Fault(reasons.NOTIONAL_TOO_LARGE, "quantity" if q.ticket.amount_micros is None else "amount", details)


def _price_within_collar(q: Question) -> Fault | None:
    limit = q.ticket.amount_micros
    if limit is None:
        return None
    buys = q.ticket.order_type == "buy"
    bid, ask = (q.quote.bid_micros, q.quote.ask_micros) if q.quote else (0, 0)
    reference = (ask or bid if buys else bid or ask) or (q.listing.previous_close_micros if q.listing else 0)
    if not reference:
        return None
    bound = reference * (PPM + q.rules.collar_ppm if buys else PPM - q.rules.collar_ppm)
    if limit * PPM <= bound if buys else limit * PPM >= bound:
        return None
    details = {
        "amount": text_of(limit),
        "percent": f"{q.rules.collar_ppm / 10_000:g}",
        "reference": text_of(reference),
        "bound": text_of(bound // PPM if buys else -(-bound // PPM)),
    }
    return Fault(reasons.PRICE_OUTSIDE_COLLAR, "amount", details)


def _open_orders_within_max(q: Question) -> Fault | None:
    if q.replaces or q.open_orders < q.rules.open_orders_max:
        return None
    return Fault(reasons.OPEN_ORDERS_TOO_MANY, details={"open": q.open_orders, "max": q.rules.open_orders_max})


def _not_too_fast(q: Question) -> Fault | None:
    if q.replaces or q.in_second < q.rules.orders_per_second_max:
        return None
    return Fault(reasons.ORDERS_TOO_FAST, details={"placed": q.in_second, "max": q.rules.orders_per_second_max})


def _not_a_slip(q: Question) -> Fault | None:
    if q.repeated_us is None or q.repeated_us >= q.rules.duplicate_us:
        return None
    details = {"age_ms": q.repeated_us // US_PER_MS, "window_ms": q.rules.duplicate_us // US_PER_MS}
    return Fault(reasons.DUPLICATE_ORDER, details=details)


def _cash_enough(q: Question) -> Fault | None:
    needed = q.needed_cash_micros
    if needed is None:
        return _about(q, reasons.QUOTE_MISSING)
    if needed <= 0 or needed <= q.free_cash_micros:
        return None
    details = {"needed": shown(text_of(needed)), "available": text_of(q.free_cash_micros)}
    return Fault(reasons.BUYING_POWER_SHORT, "quantity", details)


def _shares_enough(q: Question) -> Fault | None:
    if q.needed_shares <= 0 or q.needed_shares <= q.free_shares or q.rules.short_selling:
        return None
    details = {"symbol": q.ticket.symbol, "needed": shown(str(q.needed_shares)), "available": q.free_shares}
    return Fault(reasons.SHARES_SHORT, "quantity", details)


def _about(q: Question, code: Code) -> Fault:
    return Fault(code, "symbol", {"symbol": shown(q.ticket.symbol)})


CHECKS = (
    Check(reasons.ACCOUNT_BLOCKED, "The account may trade.", _account_active),
    Check(reasons.SYMBOL_UNKNOWN, "The symbol is traded here.", _symbol_listed),
    Check(reasons.SYMBOL_RESTRICTED, "The house takes orders in the symbol.", _symbol_allowed),
    Check(reasons.CANCEL_ONLY, "Trading is not stopped.", _not_cancel_only),
    Check(reasons.REDUCE_ONLY, "Trading is not restricted, or the order reduces a position.", _reduces_if_it_must),
    Check(reasons.SYMBOL_HALTED, "The symbol is not halted.", _not_halted),
    Check(reasons.MARKET_CLOSED, "The market is open, or the order may wait for it.", _market_open),
    Check(reasons.QUANTITY_TOO_LARGE, "The quantity is within the limit of one order.", _quantity_within_max),
    Check(reasons.QUANTITY_OFF_LOT, "The quantity is in whole lots.", _whole_lots),
    Check(reasons.AMOUNT_OFF_TICK, "The amount is on the tick.", _price_on_tick),
    Check(reasons.QUOTE_MISSING, "There is a price to reckon with.", _quoted),
    Check(reasons.QUOTE_STALE, "The price is fresh enough.", _quote_fresh),
    Check(reasons.NOTIONAL_TOO_LARGE, "The value is within the limit of one order.", _notional_within_max),
    Check(reasons.PRICE_OUTSIDE_COLLAR, "The amount is near enough to the market.", _price_within_collar),
    Check(reasons.OPEN_ORDERS_TOO_MANY, "The account may have another open order.", _open_orders_within_max),
    Check(reasons.ORDERS_TOO_FAST, "The account's orders come slowly enough.", _not_too_fast),
    Check(reasons.DUPLICATE_ORDER, "The same order was not placed just before.", _not_a_slip),
    Check(reasons.BUYING_POWER_SHORT, "The account has the cash.", _cash_enough),
    Check(reasons.SHARES_SHORT, "The account has the shares.", _shares_enough),
)
_LOOKS = tuple(check.look for check in CHECKS)
