"""Worlds that are broken on purpose: each has one fault of the kind that the checks are there for, and must be caught.
A checker that cannot fail would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from exchange_gateway.orders.outcome import Answer
from infra.outbox import OutboxRow
from order_service.store.unit import Unit
from tests.simulation.world import World

Sabotage = Callable[[World], None]


def resends_blindly(world: World) -> None:
    """A gateway that sends what got no answer once more, under a fresh ClOrdID."""
    submit = world.remote.submit

    async def again(order: Any) -> Answer:
        answer = await submit(order)
        if answer.outcome != "unknown":
            return answer
        return await submit(msgspec.structs.replace(order, cl_ord_id=f"{order.cl_ord_id[:32]}-9"))

    world.remote.submit = again  # type: ignore[method-assign]


def drops_transfers(world: World) -> None:
    """A store that loses a line of an entry now and then."""
    _spoil(world, lambda unit: unit.ledger and world.random.random() < 0.01 and unit.ledger.pop())


def drops_fills(world: World) -> None:
    """A store that loses an execution now and then, but not what it did to the order."""
    _spoil(world, lambda unit: unit.executions and world.random.random() < 0.05 and unit.executions.pop())


def drops_events(world: World) -> None:
    """A store that loses an event now and then."""
    _spoil(world, lambda unit: unit.events and world.random.random() < 0.005 and unit.events.pop())


def forgets_keys(world: World) -> None:
    """A store that does not know which keys it has seen, behind a cache that does not either."""
    _spoil(world, lambda _: world.store._keys.clear())
    world.weather.cache_away = 0.9


def skips_rows(world: World) -> None:
    """A relay that passes a row now and then, as one that reads `id > last` does."""
    unpublished = world.store.unpublished

    def some(after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        found = unpublished(after, limit)
        return [row for row in found if row[0] % 97 or row is found[-1]]

    world.store.unpublished = some  # type: ignore[method-assign]


def _spoil(world: World, spoil: Callable[[Unit], object]) -> None:
    save = world.store._save

    def spoilt(unit: Unit) -> None:
        spoil(unit)
        save(unit)

    world.store._save = spoilt  # type: ignore[method-assign]


# Each with the check that must find it.
SABOTAGES: dict[str, tuple[Sabotage, str]] = {
    one.__name__: (one, check)
    for one, check in (
        (resends_blindly, "once_at_venue"),
        (drops_transfers, "ledger"),
        (drops_fills, "same_fills"),
        (drops_events, "events"),
        (forgets_keys, "clients"),
        (skips_rows, "events"),
    )
}
