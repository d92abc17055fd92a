"""An order, as a value. Changes make a new one; only `facts` and the placing of it do that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
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

    `amount_micros` is the limit price per share. `leaves_qty` is what can still be filled: 0 once final.
    `requests` counts what was asked of the exchange: the submit is 1, so the newest ClOrdID ends in `-<requests>`;
    `cl_ord_id` is the one that the exchange knows the order by. `venue_seq` is the highest number of the exchange's
    reports for the order that was applied; 0 as long as the exchange has said nothing.
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
    pending: Pending | None
    outcome: Outcome
    cum_qty: int
    leaves_qty: int
    cum_notional_micros: int
    exchange_order_id: str | None
    cl_ord_id: str
    requests: int
    venue_seq: int
    idempotency_key: str
    request_hash: str
    reason: Why | None
    attempts: int
    next_attempt_us: int | None
    version: int
    account_seq: int
    created_us: int
    updated_us: int

    @property
    def final(self) -> bool:
        return self.status in FINAL

    def numbered(self, account_seq: int) -> Order:
        """The same change with its place in the account's sequence."""
        return replace(self, account_seq=account_seq)
