"""Which commands of a batch may go out side by side: those of different orders. Within an order they go one after the
other, so a cancel never overtakes its submit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def lanes(items: Iterable[tuple[str, T]]) -> list[list[T]]:
    """The items by order id, each lane in the order of arrival, lanes by their first item."""
    by_order: dict[str, list[T]] = {}
    for order_id, item in items:
        by_order.setdefault(order_id, []).append(item)
    return list(by_order.values())
