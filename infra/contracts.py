"""The words that processes say to each other: topics, headers and messages.

Each topic is declared once, here, and created from this list, never automatically. Messages are JSON in snake_case.
Prices are integer micros (1e-6 USD), quantities integers, times int64 nanoseconds UTC. Unknown fields are ignored, so a
field can be added without a flag day; a missing or mistyped field makes the message malformed (:class:`Malformed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

MICROS_PER_UNIT = 1_000_000
SCHEMA_VERSION = b"1"
DLQ_SUFFIX = ".dlq"
DAY_MS = 86_400_000

# Header names. Every message carries the first four.
EVENT_ID = "event-id"
IDEMPOTENCY_KEY = "idempotency-key"
TRACEPARENT = "traceparent"
SCHEMA = "schema"

Headers = tuple[tuple[str, bytes], ...]


class Malformed(ValueError):
    """The bytes are not a message of the expected type. Deterministic: trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One Kafka topic. `key` says what the record key is; `retention_ms` is ignored when compacted."""

    name: str
    key: str
    doc: str
    partitions: int = 16
    retention_ms: int = 7 * DAY_MS
    cleanup: Literal["delete", "compact"] = "delete"


PRICES = "prices"
DEPTH = "depth"
INSTRUMENTS = "instruments"
MARKET_STATUS = "market-status"
ORDERS = "orders"
ORDER_STATUS = "order-status"
ORDER_EVENTS = "order-events"
SWITCHES = "switches"

_SOURCES = (
    Topic(PRICES, "symbol", "Every trade and quote of the venue.", retention_ms=DAY_MS),
    Topic(DEPTH, "symbol", "Top ten levels of the venue's book.", retention_ms=DAY_MS // 24),
    Topic(INSTRUMENTS, "symbol", "Name, tick and lot size, previous close.", partitions=1, cleanup="compact"),
    Topic(MARKET_STATUS, "symbol or *", "Session open and close, halt and resume.", partitions=1, cleanup="compact"),
    Topic(SWITCHES, "scope", "Kill switches set by operators.", partitions=1, cleanup="compact"),
    Topic(ORDERS, "order id", "Commands for the venue."),
    Topic(ORDER_STATUS, "order id", "Reports and send outcomes, normalised."),
    Topic(ORDER_EVENTS, "account id", "Every change of every order."),
)
TOPICS: tuple[Topic, ...] = _SOURCES + tuple(
    Topic(t.name + DLQ_SUFFIX, "original key", f"Messages of {t.name} that could not be handled.", 4, 30 * DAY_MS)
    for t in _SOURCES
)


# -- prices ------------------------------------------------------------------------------------------------------------

# Far above any real value, far below what 64-bit columns and a minute's sums can hold; what is beyond is malformed.
PRICE_MICROS_MAX = 10**13
SIZE_MAX = 10**11
NUMBER_MAX = 1 << 60
TIME_NS_MAX = 1 << 62
_Symbol = Annotated[str, Meta(min_length=1, max_length=16)]
_Session = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
_Sequence = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
_Time = Annotated[int, Meta(ge=1, le=TIME_NS_MAX)]
_Price = Annotated[int, Meta(ge=1, le=PRICE_MICROS_MAX)]
_PriceOrNone = Annotated[int, Meta(ge=0, le=PRICE_MICROS_MAX)]
_Size = Annotated[int, Meta(ge=0, le=SIZE_MAX)]


class Trade(msgspec.Struct, frozen=True, tag_field="k", tag="T", gc=False):
    """A print. (s, d, q) identifies it: symbol, session, sequence from 1 without holes."""

    s: _Symbol
    d: _Session
    q: _Sequence
    t: _Time  # event time, ns UTC
    p: _Price  # price, micros
    z: _Size  # size, shares
    c: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] = 0  # condition flag bits
    x: Annotated[str, Meta(max_length=8)] = ""  # venue code of the print


class Quote(msgspec.Struct, frozen=True, tag_field="k", tag="Q", gc=False):
    """Best bid and ask after an update. A side without orders has price and size 0."""

    s: _Symbol
    d: _Session
    q: _Sequence
    t: _Time
    b: _PriceOrNone  # bid, micros
    bz: _Size
    a: _PriceOrNone  # ask, micros
    az: _Size


Tick = Trade | Quote


class Depth(msgspec.Struct, frozen=True, gc=False):
    """The whole visible book after a change: at most ten levels a side, best first, as (price micros, size). `n` rises
    with every message of a symbol within a session; messages may be left out, since each one is complete."""

    s: str
    d: int
    n: int
    t: int  # event time, ns UTC
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


class Instrument(msgspec.Struct, frozen=True):
    """What the venue lists. `previous_close_micros` belongs to `session`; 0 when unknown."""

    symbol: str
    name: str
    tick_micros: int
    lot: int
    session: int
    previous_close_micros: int = 0


class MarketStatus(msgspec.Struct, frozen=True):
    """A session (number = Unix seconds of its start) opens or closes; a symbol is halted or resumed."""

    kind: Literal["open", "close", "halt", "resume"]
    session: int
    at_ns: int
    symbol: str = "*"


# -- switches ----------------------------------------------------------------------------------------------------------

SwitchMode = Literal["normal", "cancel_only", "reduce_only"]


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's kill switch. `scope` is the record's key: `global`, `symbol:AAPL` or `account:7`.

    `cancel_only` lets no order through but cancels; `reduce_only` only orders that make a position smaller. The
    strictest of the switches that fit an order holds.
    """

    scope: str
    mode: SwitchMode
    reason: str
    by: str
    at_ns: int


# -- orders ------------------------------------------------------------------------------------------------------------

CommandKind = Literal["submit", "cancel", "replace", "query", "submit_again"]
Side = Literal["buy", "sell"]
OrdType = Literal["LIMIT", "MARKET"]
Tif = Literal["DAY", "GTC", "IOC", "FOK"]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue shall do with an order. FIX: NewOrderSingle, OrderCancelRequest, OrderCancelReplaceRequest,
    OrderStatusRequest."""

    kind: CommandKind
    event_id: str
    order_id: str
    account_id: int
    cl_ord_id: str
    orig_cl_ord_id: str | None = None
    symbol: str
    order_type: Side
    type: OrdType
    tif: Tif
    quantity: int
    limit_micros: int | None = None
    not_after_ns: int | None = None
    idempotency_key: str | None = None
    requested_ns: int


ReportKind = Literal["execution", "cancel_reject", "send_outcome"]
ExecType = Literal[
    "NEW", "TRADE", "CANCELED", "REPLACED", "REJECTED", "EXPIRED", "TRADE_CORRECT", "TRADE_CANCEL", "STATUS"
]
SendOutcome = Literal["accepted", "refused", "unknown", "not_sent", "parked"]
ReportSource = Literal["answer", "webhook", "drop_copy", "query", "snapshot"]


class Reason(msgspec.Struct, frozen=True):
    """Why something was refused or ended: a stable code and a sentence."""

    code: str
    text: str = ""


# Codes of send outcomes that order_service acts upon.
UNKNOWN_ORDER = "unknown_order"  # asked for the order, the venue said that it has none of that ClOrdID
NOT_AFTER_PASSED = "not_after_passed"  # never sent: its time was over
SWITCHED_OFF = "switched_off"  # never sent: a kill switch was on
BLOCKED_BY = "blocked_by"  # never sent: an earlier command of the same order is parked


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened at the venue, or to a send, in FIX ExecutionReport terms.

    `exec_id` is unique per venue and session and is the same in the answer, the webhook and the drop copy of one
    report; `venue_seq` rises by one per order at the venue. A `send_outcome` has neither. `quantity` (OrderQty) and
    `limit_micros` are the order's terms after the report; 0 and None when the sender does not say. A TRADE_CANCEL
    (bust) or TRADE_CORRECT names in `exec_ref_id` the ExecID of the original fill; `last_qty` and `last_micros` of a
    TRADE_CORRECT are the fill's right terms. `command` is the kind of command that a send outcome is about: only an
    answer to a query counts as asked.
    """

    kind: ReportKind
    order_id: str
    cl_ord_id: str
    source: ReportSource
    received_ns: int
    exchange_order_id: str | None = None
    exec_id: str | None = None
    exec_ref_id: str | None = None
    exec_type: ExecType | None = None
    order_status: str | None = None
    last_qty: int = 0
    last_micros: int = 0
    cum_qty: int = 0
    leaves_qty: int = 0
    venue_seq: int = 0
    transact_ns: int = 0
    reason: Reason | None = None
    outcome: SendOutcome | None = None
    command: CommandKind | None = None
    attempts: int = 0
    orig_cl_ord_id: str | None = None
    session: int = 0
    symbol: str | None = None
    side: Side | None = None
    quantity: int = 0
    limit_micros: int | None = None


class VenueState(msgspec.Struct, frozen=True, kw_only=True):
    """One order as the venue holds it, in a snapshot. `cl_ord_id` is the newest of its chain, `session` the one in
    which the venue took the order; 0 when the sender does not say."""

    cl_ord_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    order_status: str
    quantity: int
    cum_qty: int
    cum_notional_micros: int
    venue_seq: int
    limit_micros: int | None = None
    session: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="snapshot"):
    """One part of the venue's side on `order-status`, all parts of one snapshot under one key, in order.

    `begin` comes first, then pages of `orders` (everything the venue remembers) and of `fills` (its executions, oldest
    first, as reports with source `snapshot`), then `end` with how many of each were published. `page` counts the parts
    from 0 (`begin`) without holes, so a reader knows whether it saw all of them. `taken_ns` is when the snapshot began.
    """

    snapshot_id: str
    why: Literal["start", "interval", "session_end", "asked"]
    part: Literal["begin", "orders", "fills", "end"]
    page: int
    session: int
    taken_ns: int
    orders: tuple[VenueState, ...] = ()
    fills: tuple[Report, ...] = ()
    orders_total: int = 0
    fills_total: int = 0


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one order, with the whole order after it (the Order JSON of the HTTP API, camelCase). `state` holds
    what the projection keeps beside that, so that it can be rebuilt from the events."""

    event_id: str
    type: str
    account_id: int
    account_seq: int
    order_id: str
    version: int
    at_ns: int
    cause: str
    order: dict[str, Any]
    state: dict[str, Any] = {}


# -- bytes -------------------------------------------------------------------------------------------------------------

M = TypeVar("M")


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(message: Any) -> bytes:
    return _encoder.encode(message)


def decode(kind: type[M] | Any, value: bytes | None) -> M:
    """Decode one message. Raises Malformed with the place and the cause."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(value or b"")  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from error


def status_message(value: bytes | None) -> Report | Snapshot:
    """A message of the topic `order-status`. Raises Malformed."""
    return decode(Snapshot if decode(_Kind, value).kind == "snapshot" else Report, value)


def cl_ord_id(order_id: str, request: int) -> str:
    """ClOrdID of an order's n-th request at the venue: the order id as 32 hex digits, a dash, the number."""
    return f"{order_id.replace('-', '')}-{request}"


_HEX = frozenset("0123456789abcdef")


def order_id_of(cl_ord_id: str) -> str:
    """The order id that a ClOrdID of ours encodes. Raises Malformed for an id that is not ours."""
    digits, dash, request = cl_ord_id.partition("-")
    if len(digits) != 32 or not dash or not (request.isascii() and request.isdigit()) or not _HEX.issuperset(digits):
        raise Malformed(f"{cl_ord_id!r} is not a ClOrdID of ours")
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
