"""The order store. The `_pg` files are the real one, `memory` its twin; both pass the same contract tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from infra.principal import Principal
from order_service.domain.breaks import Break, State
from order_service.domain.executions import ExecKey, Execution
from order_service.domain.ledger import Balance, Transfer
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order
from order_service.store.unit import Account, EventRow, Unit, Want

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


class OpenOrder(NamedTuple):
    id: str
    version: int
    status: Status


class OpenOrders(NamedTuple):
    """An account as of its event `seq`: its orders that were not final then, by id."""

    seq: int
    orders: list[OpenOrder]


class Open(Protocol):
    async def open_orders(self, asker: Principal, account_id: int) -> OpenOrders | None:
        """Number and orders come from one moment. None for an account that does not exist or that the asker may not
        see."""
        ...


class OrderStore(Open, Protocol):
    async def write(self, asker: Principal, want: Want, decide: Callable[[Unit], T]) -> T:
        """One batch: lock, load, decide, save, commit. When this returns, everything the decision changed is durable;
        when it raises, nothing is (after a lost connection it may be, and the decision must stand being repeated). A
        decision that changes nothing commits nothing, so it may also be used to look (a preview).
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


class Books(Protocol):
    """Balances for those who may see them, and money and shares from outside."""

    async def account(self, asker: Principal, account_id: int) -> Account | None: ...

    async def positions(self, asker: Principal, account_id: int) -> dict[str, Balance]:
        """By symbol; without those that are all zero."""
        ...

    async def post(self, asker: Principal, transfers: Sequence[Transfer], entry_id: str) -> bool:
        """Book transfers that no order caused (a deposit). False when `entry_id` (a UUID) is booked already."""
        ...

    async def differences(self) -> list[Break]:
        """Where the books contradict themselves, as breaks of kind `ledger`: a balance that is not the sum of its
        transfers, a reservation that is not the open orders', shares or cash that are not the executions'. Empty when
        the books are right."""
        ...


class Watch(Protocol):
    """What timers and reconciliation need to find, a page at a time."""

    async def due(self, now_us: int, limit: int) -> list[str]:
        """Orders whose `next_attempt_us` has come, most overdue first."""
        ...

    async def open_after(self, order_id: str | None, limit: int) -> list[Order]:
        """Orders that are not final, by id, those above `order_id`."""
        ...

    async def orders_of(self, ids: Sequence[str]) -> dict[str, Order]: ...

    async def executions_of(self, order_ids: Sequence[str]) -> dict[ExecKey, Execution]:
        """All executions of these orders; of account 0 too (fills of no order of ours)."""
        ...

    async def histories_after(self, order_id: str | None, limit: int) -> list[tuple[Order | None, list[EventRow]]]:
        """Orders by id, those above `order_id`, each with all its events, oldest first: to rebuild the one from the
        others. Orders without events and events without an order are in it too."""
        ...


class Breaks(Protocol):
    async def page(self, state: State | None, after: str | None, limit: int) -> list[Break]:
        """By id, those above `after`."""
        ...

    async def note(self, found: Sequence[Break]) -> None:
        """List these differences. One that is listed keeps its age; a closed one that is found again with other numbers
        is opened again."""
        ...

    async def mark(self, asker: Principal, break_id: str, state: State, note: str) -> bool:
        """Close or reopen one; False when there is none of that id."""
        ...

    async def ages(self) -> Mapping[State, tuple[int, int]]:
        """Per state: how many, and when the oldest was first seen (µs)."""
        ...
