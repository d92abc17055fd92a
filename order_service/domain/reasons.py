"""Every code with which an order, or a request about one, is refused: once, with one sentence and what would fix it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Code:
    """A stable code. `text` and `fix` may name the fault's details in braces. With `retry_after_s` the very same
    request may succeed later."""

    code: str
    text: str
    fix: str
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal as a value: pure code returns it, the use case raises it."""

    code: Code
    field: str | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# -- the request itself ------------------------------------------------------------------------------------------------
PARAMETER_INVALID = Code("parameter_invalid", "The query parameter {name} is not valid.", "Allowed: {allowed}.")
KEY_INVALID = Code(
    "idempotency_key_invalid",
    "The Idempotency-Key is not usable.",
    "Send 1 to 255 visible ASCII characters, or leave the header out.",
)
KEY_REUSED = Code(
    "idempotency_key_reused",
    "The Idempotency-Key was used before for another request; these fields differ: {fields}.",
    "Use a new key for a new order, or repeat the first request unchanged.",
)

# -- the order ---------------------------------------------------------------------------------------------------------
SIDE_UNKNOWN = Code("order_type_unknown", "{value} is not a side.", "orderType is buy or sell.")
TYPE_UNSUPPORTED = Code("type_not_supported", "Orders of type {value} are not taken.", "type is LIMIT or MARKET.")
TYPE_HELD = Code(
    "type_not_taken_yet",
    "Conditional orders such as {value} are not taken yet.",
    "type is LIMIT or MARKET; watch the price and send one of them.",
)
TIF_UNSUPPORTED = Code(
    "time_in_force_not_supported", "The time in force {value} is not taken.", "timeInForce is DAY, GTC, IOC or FOK."
)
SYMBOL_UNKNOWN = Code("symbol_not_traded", "{symbol} is not traded here.", "Find symbols with GET /stockPrices/search.")
QUANTITY_NOT_WHOLE = Code("quantity_not_whole", "The quantity {quantity} is not a whole number.", "Send whole shares.")
QUANTITY_TOO_SMALL = Code("quantity_not_positive", "The quantity {quantity} is below 1.", "Order at least one share.")
QUANTITY_TOO_LARGE = Code(
    "quantity_above_max",
    "The quantity {quantity} is above one order's limit, {max}.",
    "Split the order.",
)
QUANTITY_OFF_LOT = Code(
    "quantity_off_lot", "The quantity {quantity} is not a multiple of the lot, {lot}.", "Order whole lots."
)
AMOUNT_REQUIRED = Code(
    "amount_required", "A LIMIT order needs an amount.", "Send amount, the limit price per share, or type MARKET."
)
AMOUNT_REFUSED = Code(
    "amount_not_allowed", "A MARKET order has no limit price.", "Leave amount out, or send type LIMIT."
)
AMOUNT_INVALID = Code("amount_invalid", "The amount {amount} is not a price.", "Send a positive decimal number.")
AMOUNT_OFF_TICK = Code(
    "amount_off_tick", "The amount {amount} is not a multiple of the tick size, {tick}.", "Send a price on the tick."
)
PRICE_OUTSIDE_COLLAR = Code(
    "price_outside_collar",
    "The amount {amount} is more than {percent} % beyond {reference}, the last price on the other side.",
    "Send an amount within {bound}.",
)
NOTIONAL_TOO_LARGE = Code(
    "notional_above_max",
    "The order is worth {notional}, above one order's limit, {max}.",
    "Split the order.",
)

# -- the market's state ------------------------------------------------------------------------------------------------
SYMBOL_RESTRICTED = Code("symbol_restricted", "The house takes no orders in {symbol}.", "Choose another symbol.")
SYMBOL_HALTED = Code("symbol_halted", "Trading in {symbol} is halted.", "Wait until it is resumed; cancels are taken.")
MARKET_CLOSED = Code(
    "market_closed",
    "The market is closed; now only LIMIT orders with timeInForce GTC are taken.",
    "Send a GTC LIMIT order, or wait for the market to open.",
)
CANCEL_ONLY = Code(
    "cancel_only", "Trading is stopped ({scope}): {reason}. Only cancels are taken.", "Wait until it is lifted."
)
REDUCE_ONLY = Code(
    "reduce_only",
    "Trading is restricted ({scope}): {reason}. Only orders that make a position smaller are taken.",
    "Sell what the account holds, or wait until it is lifted.",
)
QUOTE_MISSING = Code(
    "quote_missing",
    "There is no quote of {symbol} that a MARKET order could be priced by.",
    "Try again in a moment, or send a LIMIT order.",
    1,
)
QUOTE_STALE = Code(
    "quote_stale",
    "The last quote of {symbol} is {age_s} s old, above {max_s} s.",
    "Try again in a moment, or send a LIMIT order.",
    1,
)

# -- the account and who asks ------------------------------------------------------------------------------------------
ACCOUNT_UNKNOWN = Code("account_unknown", "The account {account} does not exist.", "Ask for the account to be opened.")
ACCOUNT_BLOCKED = Code("account_blocked", "The account {account} may not trade.", "Ask the back office.")
OPEN_ORDERS_TOO_MANY = Code(
    "open_orders_above_max", "The account has {open} open orders, at most {max}.", "Cancel some of them first."
)
ORDERS_TOO_FAST = Code(
    "orders_per_second_above_max",
    "The account placed {placed} orders in this second, at most {max}.",
    "Send them more slowly.",
    1,
)
DUPLICATE_ORDER = Code(
    "duplicate_order",
    "The very same order was placed {age_ms} ms ago; within {window_ms} ms it counts as a slip.",
    "If you mean it, send it with an Idempotency-Key of its own.",
)
BUYING_POWER_SHORT = Code(
    "buying_power_insufficient",
    "The order needs {needed}, the account's buying power is {available}.",
    "Buy less, or cancel open buys.",
)
SHARES_SHORT = Code(
    "shares_insufficient",
    "The order needs {needed} shares of {symbol}, {available} are free; nothing is sold short.",
    "Sell less, or cancel open sells.",
)
ACCOUNT_REQUIRED = Code("account_required", "Which account is not said.", "Send the query parameter accountId.")
ROLE_MAY_NOT_TRADE = Code(
    "role_may_not_trade", "The role {role} may not place or cancel orders.", "Use the token of the account's investor."
)
ORDER_NOT_FOUND = Code("order_not_found", "There is no such order.", "List your orders with GET /orders.")

# -- the order's state -------------------------------------------------------------------------------------------------
ORDER_FINAL = Code("order_final", "The order is {status} and cannot change any more.", "Nothing is left to change.")
CANCEL_PENDING = Code(
    "cancel_pending", "A cancel of the order is on its way to the exchange.", "Wait for its answer.", 1
)
REPLACE_PENDING = Code(
    "replace_pending", "A replace of the order is on its way to the exchange.", "Wait for its answer.", 1
)
ORDER_PARKED = Code(
    "order_parked", "The order could not be sent and waits for an operator.", "Cancel it and place another one."
)
REPLACE_OF_MARKET = Code("replace_of_market", "A MARKET order cannot be replaced.", "Cancel it and place another one.")
REPLACE_EMPTY = Code("replace_empty", "Nothing to replace was sent.", "Send quantity, amount or both.")
REPLACE_WITHOUT_CHANGE = Code(
    "replace_without_change", "The order has this quantity and amount already.", "Send what shall be different."
)
REPLACE_TOO_LATE = Code(
    "replace_too_late",
    "The quantity {quantity} is not above the {filled} shares that are filled.",
    "Cancel what is open instead.",
)

# -- operators ---------------------------------------------------------------------------------------------------------
BREAK_NOT_FOUND = Code("break_not_found", "There is no such break.", "List them with GET /ops/breaks.")
REBUILD_ONLY_CHECKS = Code(
    "rebuild_only_checks", "The orders are only compared with their events, never rewritten.", "Send check=true."
)

# -- ourselves: the same request can succeed later ---------------------------------------------------------------------
MARKET_UNKNOWN = Code(
    "market_unknown", "What is traded, and whether it may be, has not arrived yet.", "Try again in a moment.", 1
)
REQUEST_IN_FLIGHT = Code(
    "request_in_flight",
    "A request with this Idempotency-Key is being handled.",
    "Repeat it in a moment to get its answer.",
    1,
)
BUSY = Code("orders_busy", "More orders are waiting than can be stored in time.", "Try again in a moment.", 1)
STORE_UNAVAILABLE = Code(
    "store_unavailable",
    "The store does not answer; whether the request was stored is not known.",
    "Repeat it with the same Idempotency-Key.",
    1,
)
STREAM_UNAVAILABLE = Code("stream_unavailable", "The order stream is not ready.", "Try again in a moment.", 1)

# Why an order ended or a request of ours came to nothing, where the exchange gave no reason of its own.
REJECTED_BY_VENUE = Code("rejected_by_venue", "The exchange rejected the order without a reason.", "")
CANCEL_REJECTED = Code("cancel_rejected", "The exchange did not cancel the order.", "")
NOT_AFTER_PASSED = Code("not_after_passed", "The order was too old to be sent and was never sent.", "")
NOT_SENT = Code("not_sent", "The order could not be sent and was never sent.", "")
REFUSED_BY_VENUE = Code("refused_by_venue", "The exchange did not take the request.", "")
OUTCOME_UNKNOWN = Code("outcome_unknown", "Whether the exchange has the request is not known yet.", "")
GIVEN_UP = Code("given_up", "The exchange has nothing of the request, and it is not sent again.", "")
PARKED = Code("parked", "The request could not be handled and waits for an operator.", "")

CODES: Mapping[str, Code] = {code.code: code for code in list(globals().values()) if isinstance(code, Code)}
