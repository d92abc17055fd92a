"""What the order room needs of the outside: an exchange to talk to, and a place for what it said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.venue import ExecutionsPage, VenueReport
from infra.contracts import Command, Report, ReportSource


class Venue(Protocol):
    """The exchange's order entry. The first four never raise for trouble on the way: that is part of the answer."""

    async def submit(self, order: NewOrder) -> Answer: ...

    async def cancel(self, request: CancelRequest) -> Answer: ...

    async def replace(self, request: ReplaceRequest) -> Answer: ...

    async def query(self, cl_ord_id: str) -> Answer:
        """The order and all its reports so far (accepted), or not_found."""
        ...

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        """A page of all fills, by drop-copy number. Raises VenueAway."""
        ...


class Told(Protocol):
    """Where the gateway says what became of a command. Both return when it is durable."""

    async def reports(
        self, command: Command, reports: Iterable[VenueReport], source: ReportSource, traceparent: str
    ) -> None: ...

    async def outcome(self, command: Command, report: Report, traceparent: str) -> None: ...
