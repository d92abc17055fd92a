"""The venue's words, as in docs/venue-api.md: what comes in over order entry and what goes out as reports.

Prices are integer micros (1e-6 USD), times int64 nanoseconds UTC, names are FIX's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from infra.contracts import Reason

Side = Literal["BUY", "SELL"]
OrdType = Literal["LIMIT", "MARKET"]
Tif = Literal["DAY", "GTC", "IOC", "FOK"]
ExecType = Literal["NEW", "TRADE", "CANCELED", "REPLACED", "REJECTED", "EXPIRED", "TRADE_CORRECT", "TRADE_CANCEL"]
OrdStatus = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"]
LIVE: frozenset[str] = frozenset({"NEW", "PARTIALLY_FILLED"})

ClOrdId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
M = TypeVar("M")


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """FIX NewOrderSingle (D)."""

    cl_ord_id: ClOrdId
    symbol: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    side: Side
    ord_type: OrdType
    tif: Tif
    quantity: Int64
    limit_micros: Int64 | None = None

    def __post_init__(self) -> None:
        if (self.ord_type == "LIMIT") != (self.limit_micros is not None):
            raise ValueError("limit_micros is required for LIMIT and refused for MARKET")


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """FIX OrderCancelRequest (F); the order's ClOrdID is in the address."""

    cl_ord_id: ClOrdId


class Replace(msgspec.Struct, frozen=True, kw_only=True):
    """FIX OrderCancelReplaceRequest (G). A field left out stays as it is."""

    cl_ord_id: ClOrdId
    quantity: Int64 | None = None
    limit_micros: Int64 | None = None


class Batch(msgspec.Struct, frozen=True):
    orders: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=100)]


class Report(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """FIX ExecutionReport (8), or OrderCancelReject (9) when `kind` says so."""

    kind: Literal["execution", "cancel_reject"]
    exec_id: str
    exec_ref_id: str | None = None
    exec_type: ExecType | None
    order_status: OrdStatus
    cl_ord_id: str
    orig_cl_ord_id: str | None = None
    exchange_order_id: str | None
    symbol: str | None
    side: Side | None
    quantity: int
    limit_micros: int | None
    last_qty: int = 0
    last_micros: int = 0
    cum_qty: int
    leaves_qty: int
    venue_seq: int
    transact_ns: int
    session: int
    reason: Reason | None = None


class OrderState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of the mass status (FIX OrderMassStatusRequest, AF)."""

    cl_ord_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    ord_type: OrdType
    tif: Tif
    quantity: int
    limit_micros: int | None
    order_status: OrdStatus
    cum_qty: int
    leaves_qty: int
    cum_notional_micros: int
    venue_seq: int
    session: int


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """A report and its drop-copy number. `body` is the report as JSON: encoded once for every way out."""

    n: int
    report: Report
    body: bytes

    def frame(self) -> bytes:
        return b'{"n":%d,"report":%b}' % (self.n, self.body)


class VenueError(Exception):
    """A request that is refused with an HTTP error; nothing was recorded."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.status = status
        self.code = code
        self.text = text

    def content(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text}


def exchange_order_id(number: int) -> str:
    return f"X{number}"


def order_number(order_id: str) -> int:
    return int(order_id[1:])
