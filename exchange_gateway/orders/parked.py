"""Which orders wait for an operator, because a command of theirs is in the dead letters."""

from __future__ import annotations

from dataclasses import dataclass

from exchange_gateway.orders.ports import ParkedOrders
from infra.contracts import ORDERS


@dataclass(slots=True)
class Stuck:
    """Why an order is parked. `place` is that of its first parked message; `unsent_submit` the ClOrdID of its submit,
    when that is the message and nobody can have sent it. `indexed`: the index of dead letters knows of it."""

    place: str
    unsent_submit: str | None = None
    indexed: bool = False


class Parked:
    """What this process parked itself, and what the index told. The index follows the dead letters a moment later, and
    it alone knows of an operator's decisions: an order that it knew and no longer lists is free again."""

    def __init__(self, index: ParkedOrders) -> None:
        self._index = index
        self._stuck: dict[str, Stuck] = {}

    async def load(self) -> None:
        listed = await self._index.ids(ORDERS)
        self._note(listed)
        for order_id in listed - self._stuck.keys():
            self._stuck[order_id] = Stuck("a message that was parked before", indexed=True)

    async def of(self, order_id: str) -> Stuck | None:
        if order_id in self._stuck:  # rare: only then is the index worth asking
            self._note(await self._index.ids(ORDERS))
        return self._stuck.get(order_id)

    def add(self, order_id: str, stuck: Stuck) -> None:
        self._stuck.setdefault(order_id, stuck)

    def free(self, order_id: str) -> None:
        self._stuck.pop(order_id, None)

    def _note(self, listed: set[str]) -> None:
        for order_id, stuck in list(self._stuck.items()):
            if order_id in listed:
                stuck.indexed = True
            elif stuck.indexed:
                del self._stuck[order_id]
