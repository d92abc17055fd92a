"""Reports and send outcomes onto `order-status`, keyed by order id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from exchange_gateway.reports.normalise import event_id, normalise, order_id_for
from exchange_gateway.venue import VenueReport
from infra.bus import Producer
from infra.clock import Clock
from infra.contracts import ORDER_STATUS, Command, Report, ReportSource, encode
from infra.outbox import record_headers


class StatusPublisher:
    """Any number of users share one producer, so an order's records keep the order of the calls."""

    def __init__(self, producer: Producer, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock

    async def reports(
        self, command: Command, reports: Iterable[VenueReport], source: ReportSource, traceparent: str
    ) -> None:
        """What the venue said about a command; returns when all of it is durable."""
        key = command.idempotency_key
        await asyncio.gather(*[self.report(report, source, traceparent, key) for report in reports])

    async def outcome(self, report: Report, event_id: str, idempotency_key: str, traceparent: str) -> None:
        headers = record_headers(event_id, idempotency_key, traceparent)
        await self._producer.send(ORDER_STATUS, report.order_id.encode(), encode(report), headers)

    def report(
        self, report: VenueReport, source: ReportSource, traceparent: str = "", idempotency_key: str | None = None
    ) -> asyncio.Future[None]:
        """One report; the future ends when it is durable."""
        ours = normalise(report, source, self._clock.now_ns())
        headers = record_headers(event_id(report, source), idempotency_key or report.exec_id, traceparent)
        return self._producer.send(ORDER_STATUS, ours.order_id.encode(), encode(ours), headers)

    def unreadable(self, value: bytes, cl_ord_id: str, number: int) -> asyncio.Future[None]:
        """A numbered report that makes no sense to us, untouched: the consumer parks it with its bytes, so that it is
        seen and can be replayed, and it does not stop the reports behind it."""
        event = f"drop-copy-{number}"
        return self._producer.send(
            ORDER_STATUS, order_id_for(cl_ord_id).encode(), value, record_headers(event, event, "")
        )
