"""The order store. `orders_pg` is the real one, `memory` its twin; both pass the same contract tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from infra.principal import Principal
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order
from order_service.store.unit import EventRow, Unit, Want

T = TypeVar("T")


class ConflictError(Exception):
    """What was decided contradicts what is stored (a key or a fill twice, an old version). Nothing was saved."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which orders. `account_id` narrows for those who may see all; `before` is the id of the last order seen."""

    account_id: int | None = None
    symbol: str | None = None
    status: Status | None = None
    before: str | None = None
    limit: int = 100


class OrderStore(Protocol):
    async def write(self, asker: Principal, want: Want, decide: Callable[[Unit], T]) -> T:
        """One batch: lock, load, decide, save, commit. When this returns, everything the decision changed is durable;
        when it raises, nothing is (after a lost connection it may be, and the decision must stand being repeated).
        """
        ...

    async def find(self, asker: Principal, order_id: str) -> Order | None:
        """None for an order that does not exist or that the asker may not see."""
        ...

    async def page(self, asker: Principal, wanted: Filter) -> list[Order]:
        """Newest first, of the accounts that the asker may see."""
        ...

    async def events(self, asker: Principal, order_id: str) -> list[EventRow]:
        """The order's changes, oldest first; empty for an order that the asker may not see."""
        ...

    async def events_since(self, asker: Principal, account_id: int, seq: int, limit: int) -> list[EventRow]:
        """The account's events after `seq`, oldest first; empty for an account that the asker may not see."""
        ...
