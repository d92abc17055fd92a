"""The venue's side onto `order-status`, page by page, for order_service to compare with ours.

One snapshot is everything the venue remembers: `begin`, its orders, its fills, `end` with the totals. A venue that goes
away in the middle leaves a snapshot without an end, which its readers forget, and it is begun anew.

It runs in one process. Where another has the lease, that one took the first snapshot when it started; so a process
whose turn it plainly is not need not wait for one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec
import structlog

from exchange_gateway.backoff import full_jitter_s
from exchange_gateway.reconcile.market import Market
from exchange_gateway.venue import ExecutionsPage, OrdersPage, VenueAway, VenueOrder, VenueReport
from infra.bus import BusError, Producer
from infra.clock import Clock, Ids, wait
from infra.contracts import ORDER_STATUS, Report, ReportSource, Snapshot, VenueState, encode
from infra.outbox import record_headers
from infra.telemetry import SNAPSHOTS

log = structlog.get_logger(__name__)

PAGE_MAX = 500
FIRST_PAUSE_S = 0.2
PAUSE_S_MAX = 5.0
STANDBY_AFTER_S = 3.0

Why = Literal["start", "interval", "session_end"]
Normalise = Callable[[VenueReport, ReportSource, int], Report]


class VenueBooks(Protocol):
    """What the venue remembers, in pages: `after` is 0 and then the last page's `next`. Both raise VenueAway."""

    async def orders(self, after: int, limit: int) -> OrdersPage: ...

    async def executions(self, after: int, limit: int) -> ExecutionsPage: ...


class Snapshots:
    """A Part: one snapshot at the start, then one every `interval_s` and at the end of each session."""

    def __init__(
        self,
        books: VenueBooks,
        producer: Producer,
        market: Market,
        normalise: Normalise,
        clock: Clock,
        ids: Ids,
        interval_s: float,
    ) -> None:
        self._books = books
        self._producer = producer
        self._market = market
        self._normalise = normalise
        self._clock = clock
        self._ids = ids
        self._interval_s = interval_s
        self._running = False
        self._first_done = False
        self._born_s = clock.monotonic_s()

    def ready(self) -> bool:
        """The first snapshot is out, or plainly another process takes them (see above)."""
        standing_by = not self._running and self._clock.monotonic_s() - self._born_s > STANDBY_AFTER_S
        return self._first_done or standing_by

    async def run(self, stop: asyncio.Event) -> None:
        self._running = True
        try:
            await self._market.wait_until_known(stop)
            await self._one("start", stop)
            while not stop.is_set():
                ended = await self._market.wait_for_end(stop, self._interval_s)
                if not stop.is_set():
                    await self._one("session_end" if ended else "interval", stop)
        finally:
            self._running = False

    async def _one(self, why: Why, stop: asyncio.Event) -> None:
        """Until one is whole, or the process stops."""
        tries = 0
        while not stop.is_set():
            try:
                await self._take(why)
            except (VenueAway, BusError) as error:
                SNAPSHOTS.labels("abandoned").inc()
                log.warning("snapshot_abandoned", why=why, error=str(error))
            else:
                SNAPSHOTS.labels("whole").inc()
                self._first_done = True
                return
            tries += 1
            await wait(stop, full_jitter_s(tries, FIRST_PAUSE_S, PAUSE_S_MAX, self._ids.random))

    async def _take(self, why: Why) -> None:
        snapshot = _Publishing(self._producer, self._ids.uuid7().hex, why, self._market.session, self._clock.now_ns())
        await snapshot.part("begin")
        orders = fills = 0
        after: int | None = 0
        while after is not None:
            states = await self._books.orders(after, PAGE_MAX)
            orders += len(states.orders)
            if states.orders:
                await snapshot.part("orders", orders=tuple(_state(order) for order in states.orders))
            after = _onwards(after, states.next)
        after = 0
        while after is not None:
            page = await self._books.executions(after, PAGE_MAX)
            fills += len(page.reports)
            if page.reports:
                now_ns = self._clock.now_ns()
                said = tuple(self._normalise(report, "snapshot", now_ns) for report in page.reports)
                await snapshot.part("fills", fills=said)
            after = _onwards(after, page.next)
        await snapshot.part("end", orders_total=orders, fills_total=fills)
        log.info("snapshot_published", why=why, snapshot_id=snapshot.snapshot_id, orders=orders, fills=fills)


class _Publishing:
    """The parts of one snapshot: one key, so they stay in order; each is durable before the next is made."""

    def __init__(self, producer: Producer, snapshot_id: str, why: Why, session: int, taken_ns: int) -> None:
        self.snapshot_id = snapshot_id
        self._producer = producer
        self._plain = Snapshot(
            snapshot_id=snapshot_id, why=why, part="begin", page=0, session=session, taken_ns=taken_ns
        )
        self._page = 0

    async def part(self, part: Literal["begin", "orders", "fills", "end"], **content: Any) -> None:
        value = encode(msgspec.structs.replace(self._plain, part=part, page=self._page, **content))
        event = f"snapshot-{self.snapshot_id}-{self._page}"
        key = f"snapshot:{self.snapshot_id}".encode()
        await self._producer.send(ORDER_STATUS, key, value, record_headers(event, event, ""))
        self._page += 1


def _state(order: VenueOrder) -> VenueState:
    return VenueState(
        cl_ord_id=order.cl_ord_id,
        exchange_order_id=order.exchange_order_id,
        symbol=order.symbol,
        side="buy" if order.side == "BUY" else "sell",
        order_status=order.order_status,
        quantity=order.quantity,
        cum_qty=order.cum_qty,
        cum_notional_micros=order.cum_notional_micros,
        venue_seq=order.venue_seq,
        limit_micros=order.limit_micros,
        session=order.session,
    )


def _onwards(after: int, following: int | None) -> int | None:
    if following is not None and following <= after:
        raise VenueAway(f"the page after {after} says that the next one is after {following}")
    return following
