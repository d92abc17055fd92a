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
TIMERANGE_MISSING = Code(
    "timerange_missing", "A history needs a range of time.", "Send timerange, for example 1d, or from and to."
)
RANGE_AMBIGUOUS = Code("timerange_or_from", "Both timerange and from or to were sent.", "Send one of them.")
TIME_INVALID = Code(
    "invalid_time", "{value} is not a moment.", "An RFC 3339 time such as 2024-01-31T14:30:00Z, or a date."
)
FROM_AFTER_TO = Code("from_after_to", "The range ends before it begins.", "Send from earlier than to.")
RANGE_IN_FUTURE = Code("range_in_future", "The range has not begun yet.", "Send a from in the past.")
RANGE_TOO_LONG = Code(
    "range_too_long", "At {interval} a range is at most {max_s} seconds long.", "Send from and to closer together."
)
ADJUSTED_INVALID = Code("invalid_adjusted", "{value} is not a yes or no.", "Send adjusted=true or adjusted=false.")
CURSOR_INVALID = Code("invalid_cursor", "This is not a cursor of this history.", "Send `next` as it was answered.")
CURSOR_OTHER = Code(
    "cursor_of_another_range",
    "The cursor belongs to another symbol or range.",
    "Repeat the parameters of the page before, or send symbol and cursor alone.",
)
FORMAT_UNKNOWN = Code("unknown_format", "{format} is not a format.", "One of {allowed}.")
FORMAT_NOT_ACCEPTABLE = Code(
    "format_not_acceptable", "The header Accept takes none of our formats.", "Accept one of {allowed}."
)
HISTORY_BUSY = Code(
    "too_many_histories", "Too many histories and searches are being read.", "Wait for those that you asked for."
)
LIMIT_INVALID = Code("invalid_limit", "The limit is not a number from 1 to {max}.", "Send a limit from 1 to {max}.")
HISTORY_SYMBOL_MISSING = Code("symbol_missing", "A history is of one symbol.", "Send symbol, for example symbol=AAPL.")
INTERVAL_TOO_LONG = Code(
    "interval_too_long", "The interval {interval} is longer than the range {timerange}.", "Send a shorter interval."
)
SEARCH_MISSING = Code("search_text_missing", "Nothing to search for was sent.", "Send q, for example q=app.")
SEARCH_TOO_LONG = Code("search_text_too_long", "The search text has more than {max} characters.", "Send a shorter q.")
QUERY_TOO_LONG = Code("query_too_long", "The query has more than {max} characters.", "Name fewer symbols.")
PARAMETER_UNKNOWN = Code("unknown_parameter", "There is no parameter {name} here.", "Allowed: {allowed}.")
PARAMETER_REPEATED = Code("repeated_parameter", "The parameter {name} was sent more than once.", "Send it once.")
PARAMETER_NOT_TEXT = Code("parameter_not_text", "The parameter {name} is not text.", "Percent-encode it as UTF-8.")
LAST_EVENT_ID_INVALID = Code(
    "last_event_id_invalid",
    "{id} is not the id of an event of this stream.",
    "Send the id of the last event as it was, or leave Last-Event-ID out.",
)
STREAMS_TOO_MANY = Code(
    "too_many_streams",
    "There are {max} streams open for this account already.",
    "Close one, or follow more symbols with one stream: PATCH /stockPrices/streams/(id).",
)
STREAM_UNKNOWN = Code(
    "stream_not_found", "There is no such stream of yours.", "The event `stream` at a stream's beginning has its id."
)
STREAM_UNREACHABLE = Code(
    "stream_unreachable",
    "The process that has the stream open cannot be reached; whether it was changed is not known.",
    "Send the same change again in a moment; an event `stream` confirms it.",
)
STREAM_OF_NOTHING = Code(
    "stream_of_nothing", "A stream follows one symbol at least.", "End it with DELETE, or leave one symbol."
)
STREAM_CHANGE_INVALID = Code(
    "stream_change_invalid", "A change names all symbols, or some to add or to remove.", "Send symbols, or add, remove."
)
BOOK_UNKNOWN = Code("book_unknown", "No order book of {symbol} has come yet.", "Try again while its session is open.")
MESSAGE_INVALID = Code("message_invalid", "The message cannot be read: {why}.", "Send one JSON object as documented.")
MESSAGES_TOO_MANY = Code(
    "too_many_messages", "More than {max} messages came within a second.", "Name many symbols in one message."
)
READS_PER_SECOND = Code(
    "price_reads_per_second_above_max", "So many quotes are not read in so short a time.", "Follow them as a stream."
)
PRICES_NOT_READY = Code("prices_not_ready", "The prices are still being loaded.", "Try again in a moment.")
STORE_UNAVAILABLE = Code("price_store_unavailable", "The price store does not answer.", "Try again in a moment.")

CODES: Mapping[str, Code] = {code.code: code for code in list(globals().values()) if isinstance(code, Code)}


def refusal(code: Code, field: str | None = None, **details: Any) -> Refusal:
    """`code` as an exception, its sentence and its fix filled in with the details."""
    return Refusal(code.code, code.text.format(**details), field, {**details, "fix": code.fix.format(**details)})
