"""Every code with which a price request is refused: once, with one sentence and what would fix it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from infra.refusal import Refusal


class Code(NamedTuple):
    """A stable code. `text` may name the details in braces."""

    code: str
    text: str
    fix: str


SYMBOL_UNKNOWN = Code("unknown_symbol", "{symbol} is not traded here.", "Find symbols with GET /stockPrices/search.")
SYMBOL_INVALID = Code(
    "invalid_symbol", "{symbol} cannot be a symbol.", "A letter, then letters, digits, dots or dashes, at most 16."
)
SYMBOLS_MISSING = Code("symbols_missing", "No symbol was named.", "Send symbols=A,B with at least one symbol.")
SYMBOLS_TOO_MANY = Code("too_many_symbols", "More than {max} symbols were named.", "Name fewer, or leave symbols out.")
SYMBOLS_AMBIGUOUS = Code("symbol_or_symbols", "Both symbol and symbols were sent.", "Send one of them.")
TIMERANGE_UNKNOWN = Code("unknown_timerange", "{timerange} is not a range of time.", "One of {allowed}.")
INTERVAL_UNKNOWN = Code("unknown_interval", "{interval} is not an interval.", "One of {allowed}.")
TIMERANGE_MISSING = Code("timerange_missing", "An interval needs a timerange.", "Send timerange, for example 1d.")
HISTORY_SYMBOL_MISSING = Code("symbol_missing", "A history is of one symbol.", "Send symbol, for example symbol=AAPL.")
INTERVAL_TOO_LONG = Code(
    "interval_too_long", "The interval {interval} is longer than the range {timerange}.", "Send a shorter interval."
)
SEARCH_MISSING = Code("search_text_missing", "Nothing to search for was sent.", "Send q, for example q=app.")
SEARCH_TOO_LONG = Code("search_text_too_long", "The search text has more than {max} characters.", "Send a shorter q.")
PRICES_NOT_READY = Code("prices_not_ready", "The prices are still being loaded.", "Try again in a moment.")
STORE_UNAVAILABLE = Code("price_store_unavailable", "The price store does not answer.", "Try again in a moment.")

CODES: Mapping[str, Code] = {code.code: code for code in list(globals().values()) if isinstance(code, Code)}


def refusal(code: Code, field: str | None = None, **details: Any) -> Refusal:
    """`code` as an exception, its sentence and its fix filled in with the details."""
    return Refusal(code.code, code.text.format(**details), field, {**details, "fix": code.fix.format(**details)})
