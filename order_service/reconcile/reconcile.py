"""Snapshots of the exchange's side, compared with ours: every difference is listed, what is safe to mend is mended.

Safe is what the exchange's own reports do: a fill that is missing here is applied from the snapshot as the report that
it is, and about an order that stands differently the exchange is asked, whose answer brings all its reports. Both are
deduplicated like any report, so the same snapshot again changes nothing. All else waits for a person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import structlog

from infra.clock import Clock, Ids
from infra.contracts import Malformed, Report, Snapshot
from infra.principal import system
from infra.telemetry import BREAKS_FOUND
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution
from order_service.domain.order import Order
from order_service.heard import Heard, heard, known_as
from order_service.reconcile import plan
from order_service.reconcile.plan import Sight, Totals
from order_service.store import commands
from order_service.store.ports import Books, Breaks, OrderStore, Watch
from order_service.store.traces import traceparent_of
from order_service.store.unit import Unit, Want

log = structlog.get_logger(__name__)
NAME = "reconcile"
PAGE = 500
SIGHTS_MAX = 2
T = TypeVar("T")
Apply = Callable[[Sequence[Report]], Awaitable[int]]


class Reconcile:
    """`take` is given the parts of snapshots in order; a part that comes again is known by its page. `apply` is the way
    that all reports take."""

    def __init__(
        self,
        store: OrderStore,
        watch: Watch,
        books: Books,
        breaks: Breaks,
        apply: Apply,
        clock: Clock,
        ids: Ids,
        grace_us: int,
    ) -> None:
        self._store = store
        self._watch = watch
        self._books = books
        self._breaks = breaks
        self._apply = apply
        self._clock = clock
        self._ids = ids
        self._grace_us = grace_us
        self._asker = system(NAME)
        self._sights: dict[str, Sight] = {}

    async def take(self, part: Snapshot) -> None:
        sight = self._sights.get(part.snapshot_id)
        if part.part == "begin":
            if sight is None:
                self._begin(part)
            return
        if sight is None or part.page > sight.next_page:
            self._drop(part.snapshot_id, f"page {part.page} without those before it")
            return
        if part.page < sight.next_page:
            return
        if part.orders:
            await self._orders(sight, part)
        if part.fills:
            await self._fills(sight, part)
        if part.part == "end":
            await self._end(sight, part)
            del self._sights[part.snapshot_id]
        sight.next_page += 1

    def _begin(self, part: Snapshot) -> None:
        while len(self._sights) >= SIGHTS_MAX:
            self._drop(next(iter(self._sights)), "newer ones began before it ended")
        self._sights[part.snapshot_id] = Sight(part, self._grace_us)

    def _drop(self, snapshot_id: str, why: str) -> None:
        self._sights.pop(snapshot_id, None)
        log.warning("snapshot_not_complete", snapshot_id=snapshot_id, why=why)

    async def _orders(self, sight: Sight, part: Snapshot) -> None:
        states = {known_as(state.cl_ord_id): state for state in part.orders}
        ours = await self._watch.orders_of([order_id for order_id, request in states if request])
        missing = []
        for (order_id, _), state in states.items():
            sight.saw(order_id, state)
            order = ours.get(order_id)
            if order is None:
                missing.append(plan.missing_here(state, self._now_us))
            elif not plan.stands_as(order, state):
                sight.differing[order_id] = state
        await self._note(missing)
        sight.orders += len(part.orders)

    async def _fills(self, sight: Sight, part: Snapshot) -> None:
        told = list(_readable(part))
        ids = {one.order_id for one, _ in told}
        known = await self._watch.executions_of(sorted(ids))
        # What was executed this recently is on its way as a report of its own.
        until_ns = part.taken_ns - self._grace_us * 1000
        missing = [
            (said, execution)
            for said, execution in told
            if (ours := known.get(execution.key)) is None or ours.terms != execution.terms
            if execution.transact_ns < until_ns
        ]
        if missing:
            await self._apply([said.report for said, _ in missing])
            orders = await self._watch.orders_of([said.order_id for said, _ in missing])
            await self._note(
                plan.fill_missing_here(orders[said.order_id], execution, self._now_us)
                for said, execution in missing
                if said.order_id in orders and execution.key not in known
            )
        for said, execution in told:
            sight.executions[said.order_id].append(execution)
        sight.fills += len(part.fills)

    async def _end(self, sight: Sight, part: Snapshot) -> None:
        if not sight.whole(part):
            log.warning("snapshot_not_complete", snapshot_id=part.snapshot_id, why="its totals are not what came")
            return
        found = await self._standing(sight)
        compared, totals, differing = await self._traded(sight)
        found += differing + totals.breaks(self._now_us) + await self._missing_there(sight)
        if part.why in ("start", "session_end"):
            found += await self._books.differences()
        await self._note(found)
        quiet = {account_id for account_id, _ in totals.ours} - totals.moving
        mended = await self._mended(
            {one.id for one in found},
            lambda listed, order: plan.agrees_again(listed, order, compared, quiet, sight, part.why != "interval"),
            f"Agrees since snapshot {part.snapshot_id}.",
        )
        log.info(
            "snapshot_compared",
            snapshot_id=part.snapshot_id,
            why=part.why,
            orders=sight.orders,
            fills=sight.fills,
            differences=len(found),
            mended=mended,
        )

    async def _standing(self, sight: Sight) -> list[Break]:
        """Orders that still stand differently; the exchange is asked about them."""
        found = []
        for ids in _chunks(sorted(sight.differing)):
            orders = await self._watch.orders_of(ids)
            differing = [
                order
                for order in orders.values()
                if sight.settled(order) and not plan.stands_as(order, sight.differing[order.id])
            ]
            found += [plan.status_break(order, sight.differing[order.id], self._now_us) for order in differing]
            await self._ask(differing)
        return found

    async def _ask(self, orders: Sequence[Order]) -> None:
        now_us = self._now_us

        def asked(unit: Unit) -> None:
            for order in orders:
                command = commands.query(unit.orders[order.id], 1, self._ids.text7(), now_us)
                unit.command(command, traceparent_of(None, self._ids))

        if orders:
            await self._store.write(self._asker, Want(orders=frozenset(order.id for order in orders)), asked)

    async def _traded(self, sight: Sight) -> tuple[set[str], Totals, list[Break]]:
        """The orders that could be compared, both sides' shares and cash, and the fills that the exchange lacks."""
        compared: set[str] = set()
        found: list[Break] = []
        totals = Totals()
        for ids in _chunks(sorted(sight.seen)):
            orders = await self._watch.orders_of(ids)
            ours = await self._watch.executions_of(ids)
            mine: dict[str, list[Execution]] = {order_id: [] for order_id in ids}
            for execution in ours.values():
                mine[execution.key.order_id].append(execution)
            for order in orders.values():
                if sight.settled(order):
                    theirs = sight.executions[order.id]
                    compared.add(order.id)
                    found += plan.fills_missing_there(order, mine[order.id], theirs, self._now_us)
                    totals.add(order, mine[order.id], theirs)
                else:
                    totals.moving.add(order.account_id)
        return compared, totals, found

    async def _missing_there(self, sight: Sight) -> list[Break]:
        found: list[Break] = []
        after: str | None = None
        while page := await self._watch.open_after(after, PAGE):
            found += [one for order in page if (one := plan.missing_there(order, sight, self._now_us)) is not None]
            after = page[-1].id
        return found

    async def _mended(self, found: set[str], agrees: Callable[[Break, Order | None], bool], note: str) -> int:
        """Mark the listed differences that are no more."""
        mended, after = 0, None
        while page := await self._breaks.page("open", after, PAGE):
            after = page[-1].id
            orders = await self._watch.orders_of([one.order_id for one in page if one.order_id])
            for one in page:
                if one.id not in found and agrees(one, orders.get(one.order_id or "")):
                    mended += await self._breaks.mark(self._asker, one.id, "repaired", note)
        return mended

    async def _note(self, found: Iterable[Break]) -> None:
        listed = list(found)
        for one in listed:
            BREAKS_FOUND.labels(one.kind).inc()
        for some in _chunks(listed):
            await self._breaks.note(some)

    @property
    def _now_us(self) -> int:
        return self._clock.now_ns() // 1000


def _readable(part: Snapshot) -> Iterator[tuple[Heard, Execution]]:
    """The executions of a page. One that makes no sense is logged and left out: as a report of its own it is parked."""
    for report in part.fills:
        try:
            said = heard(report)
        except Malformed as error:
            log.error("snapshot_fill_malformed", snapshot_id=part.snapshot_id, page=part.page, error=str(error))
            continue
        if said.execution is not None:
            yield said, said.execution


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), PAGE):
        yield values[start : start + PAGE]
