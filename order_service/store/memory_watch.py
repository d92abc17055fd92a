"""The twins of what timers and reconciliation read and write, over the tables of `memory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from infra.principal import Principal
from order_service.domain.breaks import Break, State
from order_service.domain.executions import ExecKey, Execution
from order_service.domain.order import Order
from order_service.store.memory import MemoryOrders
from order_service.store.unit import EventRow


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    orders: MemoryOrders

    async def due(self, now_us: int, limit: int) -> list[str]:
        waiting = [
            (order.next_attempt_us, order.id)
            for order in self.orders.orders.values()
            if order.next_attempt_us is not None and order.next_attempt_us <= now_us
        ]
        return [order_id for _, order_id in sorted(waiting)[:limit]]

    async def open_after(self, order_id: str | None, limit: int) -> list[Order]:
        found = sorted(self.orders.orders.items())
        return [order for id_, order in found if id_ > (order_id or "") and not order.final][:limit]

    async def orders_of(self, ids: Sequence[str]) -> dict[str, Order]:
        return {order_id: self.orders.orders[order_id] for order_id in ids if order_id in self.orders.orders}

    async def executions_of(self, order_ids: Sequence[str]) -> dict[ExecKey, Execution]:
        return {one.key: one for order_id in order_ids for one in self.orders.executions.get(order_id, [])}

    async def histories_after(self, order_id: str | None, limit: int) -> list[tuple[Order | None, list[EventRow]]]:
        tables = self.orders
        ids = sorted(id_ for id_ in tables.orders.keys() | tables.histories.keys() if id_ > (order_id or ""))
        return [(tables.orders.get(id_), list(tables.histories.get(id_, []))) for id_ in ids[:limit]]


@dataclass(frozen=True, slots=True)
class MemoryBreaks:
    orders: MemoryOrders

    async def page(self, state: State | None, after: str | None, limit: int) -> list[Break]:
        found = sorted(self.orders.breaks.items())
        return [one for id_, one in found if id_ > (after or "") and state in (None, one.state)][:limit]

    async def note(self, found: Sequence[Break]) -> None:
        self.orders.note(found)

    async def mark(self, asker: Principal, break_id: str, state: State, note: str) -> bool:
        known = self.orders.breaks.get(break_id)
        if known is None:
            return False
        self.orders.breaks[break_id] = replace(known, state=state, note=note)
        return True

    async def ages(self) -> Mapping[State, tuple[int, int]]:
        seen: dict[State, list[int]] = {}
        for one in self.orders.breaks.values():
            seen.setdefault(one.state, []).append(one.seen_us)
        return {state: (len(times), min(times)) for state, times in seen.items()}
