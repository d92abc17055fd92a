"""An order, as a value. Changes make a new one; only `facts` and the placing of it do that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

from order_service.domain.lifecycle import FINAL, Status


class Outcome(StrEnum):
    """What is known about the sending of the order."""

    UNSENT = "unsent"
    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"
    PARKED = "parked"


class Pending(StrEnum):
    """A request of ours that the exchange has not answered yet. Not a status: the order lives on meanwhile."""

    CANCEL = "cancel"
    REPLACE = "replace"


SIDES = ("buy", "sell")
TYPES = ("LIMIT", "MARKET")
TIFS = ("DAY", "GTC", "IOC", "FOK")


@dataclass(frozen=True, slots=True)
class Why:
    """The reason an order is as it is: a stable code, a sentence, the numbers that decided."""

    code: str
    text: str = ""
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the client wants, checked for shape."""

    order_type: str
    type: str
    symbol: str
    quantity: int
    amount_micros: int | None
    tif: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of one account. Times are microseconds since the Unix epoch, UTC (the store's resolution).

    `amount_micros` is the limit price per share. `status` follows from `standing` and the quantities
    (`lifecycle.status_of`). `leaves_qty` is what can still be filled: 0 once final.

    `requests` counts what was asked of the exchange: the submit is 1, so the newest ClOrdID ends in `-<requests>`;
    `cl_ord_id` is the one that the exchange knows the order by, `replaces` the one before it in the chain of replaces.
    `asked_quantity` and `asked_micros` are what a pending replace asks for. `venue_seq` is the highest number of the
    exchange's reports for the order that was applied, 0 as long as the exchange has said nothing; `terms_seq` that of
    the replace whose quantity and price hold, 0 as placed.

    `reserve_micros` is the price per share at which a MARKET buy reserves cash; the fee terms are those of the moment
    the order was placed (`domain/fees.py`). `not_after_us`: it is not sent for the first time after that.
    """

    id: str
    account_id: int
    order_type: str
    type: str
    symbol: str
    quantity: int
    amount_micros: int | None
    tif: str
    status: Status
    standing: Status
    pending: Pending | None
    outcome: Outcome
    cum_qty: int
    leaves_qty: int
    cum_notional_micros: int
    exchange_order_id: str | None
    cl_ord_id: str
    replaces: str | None
    requests: int
    asked_quantity: int | None
    asked_micros: int | None
    venue_seq: int
    terms_seq: int
    reserve_micros: int | None
    fee_per_share_micros: int
    fee_min_micros: int
    idempotency_key: str
    request_hash: str
    reason: Why | None
    attempts: int
    next_attempt_us: int | None
    not_after_us: int | None
    version: int
    account_seq: int
    created_us: int
    updated_us: int

    @property
    def final(self) -> bool:
        return self.status in FINAL

    def changed(self, **changes: Any) -> Order:
        """`dataclasses.replace`, several times faster: a report makes some new values of its order, and orders have
        many fields."""
        new = object.__new__(Order)
        for put, value in zip(_PUT_ALL, _values(self), strict=True):
            put(new, value)
        for name, value in changes.items():
            _PUT[name](new, value)
        return new

    def numbered(self, account_seq: int) -> Order:
        """The same change with its place in the account's sequence."""
        return self.changed(account_seq=account_seq)


_values = attrgetter(*Order.__slots__)
_PUT: Mapping[str, Callable[[Order, Any], None]] = {name: getattr(Order, name).__set__ for name in Order.__slots__}
_PUT_ALL = tuple(_PUT.values())
