"""The handler of the topic `order-status`: a batch of reports is one transaction over all orders it names."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from infra.bus import Message
from infra.clock import Clock, Ids
from infra.contracts import TRACEPARENT, Malformed, Report, decode
from infra.dlq.park import Park
from infra.principal import system
from infra.telemetry import REPORTS_APPLIED, REPORTS_IGNORED
from order_service.domain.facts import overfilled
from order_service.reports.apply import Applied, Heard, Ignored, Unusable, Verdict, decide, heard
from order_service.store.ports import OrderStore
from order_service.store.traces import traceparent_of
from order_service.store.unit import Unit, Want

log = structlog.get_logger(__name__)
GROUP = "order-service"
SETTLED_MAX = 20_000


class NotYetVisibleError(Exception):
    """A report for an order that is not in the store. With change data capture its row can become visible a moment
    after the command was published, so one more look is taken before the report is parked."""


class Settled:
    """The exchange's reports that this worker has settled, in effect or without one. Each is told three times (answer,
    webhook, drop copy); the copies need not ask the store again. What is forgotten, the store still dedupes."""

    def __init__(self, reports_max: int = SETTLED_MAX) -> None:
        self._reports_max = reports_max
        self._told: dict[Report, None] = {}

    def __contains__(self, report: Report) -> bool:
        return report.exec_id is not None and _content(report) in self._told

    def add(self, report: Report) -> None:
        if report.exec_id is not None:
            self._told[_content(report)] = None
            if len(self._told) > self._reports_max:
                del self._told[next(iter(self._told))]


def _content(report: Report) -> Report:
    """What the exchange said, without who carried it and when: a copy with other numbers is no copy."""
    return msgspec.structs.replace(report, source="answer", received_ns=0, attempts=0)


class OrderStatus:
    def __init__(self, store: OrderStore, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._asker = system(GROUP)
        self._looked_for: frozenset[str] = frozenset()
        self._settled = Settled()

    async def handle(self, messages: Sequence[Message]) -> list[Park]:
        """Apply what can be applied, durably; returns what never can be."""
        parked: list[Park] = []
        reports: list[tuple[Message, Heard]] = []
        for message in messages:
            try:
                said = heard(decode(Report, message.value))
            except Malformed as error:
                parked.append(Park(message, "malformed", str(error)))
                continue
            if isinstance(said, Heard) and said.report in self._settled:
                REPORTS_IGNORED.labels("settled").inc()
            elif isinstance(said, Heard):
                reports.append((message, said))
            else:
                parked.append(Park(message, said.code, said.text))
        if not reports:
            return parked
        want = Want(
            orders=frozenset(said.order_id for _, said in reports),
            fills=frozenset(
                (said.order_id, said.report.exec_id)
                for _, said in reports
                if said.report.exec_id and said.report.exec_type == "TRADE"
            ),
        )
        now_us = self._clock.now_ns() // 1000

        def decided(unit: Unit) -> list[Verdict]:
            self._look_again(want.orders - unit.orders.keys())
            return [
                decide(unit, said, now_us, traceparent_of(message.header(TRACEPARENT), self._ids), self._ids)
                for message, said in reports
            ]

        verdicts = await self._store.write(self._asker, want, decided)
        self._looked_for = frozenset()
        for (message, said), verdict in zip(reports, verdicts, strict=True):
            _count(said, verdict)
            if isinstance(verdict, Unusable):
                parked.append(Park(message, verdict.code, verdict.text))
            else:
                self._settled.add(said.report)
        return parked

    def _look_again(self, missing: frozenset[str]) -> None:
        if missing - self._looked_for:
            self._looked_for = missing
            raise NotYetVisibleError(", ".join(sorted(missing)))


def _count(said: Heard, verdict: Verdict) -> None:
    if isinstance(verdict, Ignored):
        REPORTS_IGNORED.labels(verdict.why).inc()
    elif isinstance(verdict, Applied):
        REPORTS_APPLIED.labels(said.report.exec_type or said.report.kind).inc()
        if overfilled(verdict.order):
            order = verdict.order
            log.error("order_overfilled", order_id=order.id, quantity=order.quantity, cum_qty=order.cum_qty)
