"""The handler of the topic `order-status`: a batch of reports is one transaction over all orders it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from infra.bus import Message
from infra.clock import Clock, Ids
from infra.contracts import TRACEPARENT, Malformed, Report, Snapshot, status_message
from infra.dlq.park import Park
from infra.principal import system
from infra.telemetry import REPORTS_APPLIED, REPORTS_IGNORED
from order_service.heard import Heard, heard
from order_service.reports.apply import Applied, Ignored, Unusable, Verdict, decide
from order_service.reports.strangers import Stranger
from order_service.store.ports import ConflictError, OrderStore
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


@dataclass(frozen=True, slots=True)
class Told:
    """A report to apply, and the trace that it belongs to."""

    heard: Heard
    traceparent: str


class OrderStatus:
    """`snapshot` is given the parts of the venue's side, which come on the same topic, in order; it makes its effects
    durable and stands being given a part again."""

    def __init__(
        self, store: OrderStore, clock: Clock, ids: Ids, snapshot: Callable[[Snapshot], Awaitable[None]]
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._snapshot = snapshot
        self._asker = system(GROUP)
        self._looked_for: frozenset[str] = frozenset()
        self._settled = Settled()

    async def handle(self, messages: Sequence[Message]) -> list[Park]:
        """Apply what can be applied, durably; returns what never can be."""
        parked: list[Park] = []
        told: list[tuple[Message, Told]] = []
        parts: list[Snapshot] = []
        for message in messages:
            try:
                said = status_message(message.value)
                if isinstance(said, Snapshot):
                    parts.append(said)
                elif said in self._settled:
                    REPORTS_IGNORED.labels("settled").inc()
                else:
                    trace = traceparent_of(message.header(TRACEPARENT), self._ids)
                    told.append((message, Told(heard(said), trace)))
            except Malformed as error:
                parked.append(Park(message, "malformed", str(error)))
        verdicts = await self._apply([one for _, one in told], look=True)
        parked += [
            Park(message, verdict.code, verdict.text)
            for (message, _), verdict in zip(told, verdicts, strict=True)
            if isinstance(verdict, Unusable)
        ]
        for part in parts:
            await self._snapshot(part)
        return parked

    async def apply(self, reports: Sequence[Report]) -> int:
        """Reports that came another way than as messages; returns how many of them changed something. Raises Malformed
        for one that makes no sense."""
        told = [Told(heard(report), traceparent_of(None, self._ids)) for report in reports]
        return sum(isinstance(verdict, Applied | Stranger) for verdict in await self._apply(told, look=False))

    async def _apply(self, told: Sequence[Told], look: bool) -> list[Verdict]:
        """`look`: an order that is not there may become visible in a moment."""
        if not told:
            return []
        want = Want(
            orders=frozenset(one.heard.order_id for one in told),
            executions=frozenset(
                (execution.key.order_id, execution.fill_id)
                for one in told
                if (execution := one.heard.execution) is not None
            ),
        )
        ours = frozenset(one.heard.order_id for one in told if one.heard.ours)
        now_us = self._clock.now_ns() // 1000

        def decided(unit: Unit) -> list[Verdict]:
            if look:
                self._look_again(ours - unit.orders.keys())
            return [decide(unit, one.heard, now_us, one.traceparent, self._ids) for one in told]

        try:
            verdicts = await self._store.write(self._asker, want, decided)
        except ConflictError:  # another worker was first: on fresh state its report is a duplicate
            verdicts = await self._store.write(self._asker, want, decided)
        self._looked_for = frozenset()
        for one, verdict in zip(told, verdicts, strict=True):
            _count(one.heard, verdict)
            if not isinstance(verdict, Unusable):
                self._settled.add(one.heard.report)
        return verdicts

    def _look_again(self, missing: frozenset[str]) -> None:
        if missing - self._looked_for:
            self._looked_for = missing
            raise NotYetVisibleError(", ".join(sorted(missing)))


def _count(said: Heard, verdict: Verdict) -> None:
    match verdict:
        case Ignored(why):
            REPORTS_IGNORED.labels(why).inc()
        case Applied(order, overfilled):
            REPORTS_APPLIED.labels(said.report.exec_type or said.report.kind).inc()
            if overfilled:
                log.error("order_overfilled", order_id=order.id, quantity=order.quantity, cum_qty=order.cum_qty)
        case Stranger(execution):
            REPORTS_APPLIED.labels(said.report.exec_type or said.report.kind).inc()
            log.error("fill_of_an_unknown_order", cl_ord_id=said.report.cl_ord_id, exec_id=execution.key.exec_id)
