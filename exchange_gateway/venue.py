"""The venue's words (docs/venue-api.md) as types: what every room of the gateway may know about the exchange.

Numbers are exact: prices in integer micros (1e-6 USD), quantities integers, times int64 nanoseconds UTC. Fields that
the venue adds later are ignored; a missing or mistyped one makes the message malformed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from infra.contracts import ExecType, Reason

Name = Annotated[str, msgspec.Meta(min_length=1)]
VenueSide = Literal["BUY", "SELL"]
# Of an order that ends here nothing more is to be expected, except a late fill or a bust.
FINAL_STATUSES = frozenset({"FILLED", "CANCELED", "REJECTED", "EXPIRED"})


class VenueReport(msgspec.Struct, frozen=True, kw_only=True):
    """R of docs/venue-api.md, in FIX ExecutionReport (8) and OrderCancelReject (9) terms. The reject of a request about
    an order that the venue does not know names neither symbol nor exchange order id."""

    kind: Literal["execution", "cancel_reject"]
    exec_id: Name
    cl_ord_id: Name
    session: int
    exec_type: ExecType | None = None
    exec_ref_id: str | None = None
    order_status: str | None = None
    orig_cl_ord_id: str | None = None
    exchange_order_id: str | None = None
    symbol: str | None = None
    side: VenueSide | None = None
    quantity: int = 0
    limit_micros: int | None = None
    last_qty: int = 0
    last_micros: int = 0
    cum_qty: int = 0
    leaves_qty: int = 0
    venue_seq: int = 0
    transact_ns: int = 0
    reason: Reason | None = None


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True):
    """O of docs/venue-api.md: an order as the venue holds it now."""

    cl_ord_id: str
    exchange_order_id: str
    symbol: str
    side: VenueSide
    ord_type: str
    tif: str
    quantity: int
    order_status: str
    cum_qty: int
    leaves_qty: int
    venue_seq: int
    session: int
    limit_micros: int | None = None
    cum_notional_micros: int = 0


class OrdersPage(msgspec.Struct, frozen=True):
    """One page of the venue's orders; `next` is what to ask with as `after`, None at the end."""

    total: int
    orders: list[VenueOrder]
    next: int | None = None


class ExecutionsPage(msgspec.Struct, frozen=True):
    """One page of the venue's fills; `next` is what to ask with as `after`, None at the end."""

    total: int
    reports: list[VenueReport]
    next: int | None = None


class NewestTicks(msgspec.Struct, frozen=True):
    """A symbol's newest trade and newest quote, oldest first, in the venue's bytes; none before its first tick."""

    symbol: str
    session: int
    ticks: list[msgspec.Raw]


class ResentTicks(msgspec.Struct, frozen=True):
    """Ticks sent again in the venue's bytes, and the ranges of sequence numbers that it does not have."""

    ticks: list[msgspec.Raw]
    missing: list[tuple[int, int]]


class VenueAway(ConnectionError):
    """The venue cannot be reached and nothing was sent. Trying again later can help."""
