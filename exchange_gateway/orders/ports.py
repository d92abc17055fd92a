"""What the order room needs of the outside: an exchange to talk to, a place for what it said, and which orders are
stuck."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.venue import VenueReport
from infra.contracts import Command, Report, ReportSource


class Venue(Protocol):
    """The exchange's order entry. No method raises for trouble on the way: that is part of the answer."""

    async def submit(self, order: NewOrder) -> Answer: ...

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        """At most BATCH_MAX orders in one request; an answer for each, in their order."""
        ...

    async def cancel(self, request: CancelRequest) -> Answer: ...

    async def replace(self, request: ReplaceRequest) -> Answer: ...

    async def query(self, cl_ord_id: str) -> Answer:
        """The order and all its reports so far (accepted), or not_found."""
        ...


BATCH_MAX = 100


class Told(Protocol):
    """Where the gateway says what became of a command. Both return when it is durable."""

    async def reports(
        self, command: Command, reports: Iterable[VenueReport], source: ReportSource, traceparent: str
    ) -> None: ...

    async def outcome(self, report: Report, event_id: str, idempotency_key: str, traceparent: str) -> None: ...


class ParkedOrders(Protocol):
    """The index of dead letters, as far as it matters here."""

    async def ids(self, topic: str) -> set[str]:
        """The orders of which a message of this topic is parked."""
        ...
