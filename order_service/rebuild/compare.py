"""An order as it is stored against what its events say it must be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from order_service.domain.order import Order
from order_service.store.order_json import rebuilt
from order_service.store.unit import EventRow


@dataclass(frozen=True, slots=True)
class Difference:
    """`field` is one of the order's; `events` when the events themselves are not what they must be."""

    order_id: str
    field: str
    stored: Any
    rebuilt: Any


def differences(order: Order | None, events: Sequence[EventRow]) -> Iterator[Difference]:
    """Everything in which an order and its events, oldest first, contradict each other."""
    order_id = order.id if order is not None else events[0].order_id
    versions = [event.version for event in events]
    if versions != list(range(1, len(versions) + 1)):
        yield Difference(order_id, "events", versions, "one for each version from 1, without gaps")
    if order is None:
        yield Difference(order_id, "events", None, f"{len(events)} events without an order")
        return
    if not events:
        yield Difference(order_id, "events", f"version {order.version}", "no events")
        return
    try:
        again = rebuilt([event.payload for event in events])
    except ValueError as error:
        yield Difference(order_id, "events", None, str(error))
        return
    for each in fields(Order):
        stored, must = getattr(order, each.name), getattr(again, each.name)
        if stored != must:
            yield Difference(order_id, each.name, stored, must)
