"""A venue to test against, and short words for what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.wire import NewOrder
from exchange_gateway.reconcile.snapshot import VenueBooks
from exchange_gateway.reports.drop_copy import DropCopySource
from infra.contracts import cl_ord_id


@dataclass(frozen=True)
class Market:
    """A venue with one symbol that trades near `price_micros`."""

    venue: Venue
    books: VenueBooks
    drop_copy: DropCopySource
    symbol: str
    price_micros: int

    def order(self, **changes: Any) -> NewOrder:
        """A buy of 2 that rests, far below the market."""
        plain: dict[str, Any] = {
            "cl_ord_id": new_id(),
            "symbol": self.symbol,
            "side": "BUY",
            "ord_type": "LIMIT",
            "tif": "DAY",
            "quantity": 2,
            "limit_micros": self.away(0.5),
        }
        return NewOrder(**plain | changes)

    def away(self, factor: float) -> int:
        return round(self.price_micros * factor) // 10_000 * 10_000


def new_id() -> str:
    return cl_ord_id(str(uuid4()), 1)


def kinds(answer: Answer) -> list[str | None]:
    return [report.exec_type or report.kind for report in answer.reports]


def reason(answer: Answer) -> str | None:
    last = answer.reports[-1].reason
    return last.code if last else None
