"""The use cases of the clients' side: place and cancel. A batch mixes both, in arrival order, for any accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from uuid import UUID

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from infra.clock import Clock, Ids
from infra.db import TRANSIENT
from infra.principal import Principal, system
from infra.refusal import Refusal
from infra.telemetry import ORDERS_PLACED, ORDERS_REFUSED
from order_service.domain import checks, reasons
from order_service.domain.checks import Limits
from order_service.domain.reasons import Fault
from order_service.placing import cancel, place
from order_service.placing.cancel import CancelOrder
from order_service.placing.idempotency import valid_key
from order_service.placing.place import Done, Listings, PlaceOrder
from order_service.placing.writer import Writer
from order_service.store.ports import OrderStore
from order_service.store.refusals import refusal, refuse
from order_service.store.traces import traceparent_of
from order_service.store.unit import Unit, Want

log = structlog.get_logger(__name__)
Request = PlaceOrder | CancelOrder

# How long a request waits for a store that is away; below the time that a stopping process is given.
STORE_PATIENCE_S = 3.0


class Desk:
    """`listings` gives the present listings; the bounds are those of the group commit."""

    def __init__(
        self,
        store: OrderStore,
        listings: Callable[[], Listings],
        limits: Limits,
        clock: Clock,
        ids: Ids,
        queue_max: int,
        batch_max: int,
    ) -> None:
        self._store = store
        self._listings = listings
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._asker = system("order-desk")
        self._writer: Writer[Request, Done | Fault] = Writer(self._commit, queue_max, batch_max)

    async def run(self, stop: asyncio.Event) -> None:
        await self._writer.run(stop)

    async def place(
        self,
        asker: Principal,
        *,
        order_type: str,
        type_: str,
        symbol: str,
        quantity: int | float,
        amount: Decimal | None,
        tif: str,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> Done:
        """Store an order for the asker's account. Raises Refusal; then nothing was stored."""
        try:
            account_id = _trading_account(asker)
            if key is not None and not valid_key(key):
                raise refuse(reasons.KEY_INVALID, "Idempotency-Key")
            ticket = checks.ticket(order_type, type_, symbol, quantity, amount, tif)
            if isinstance(ticket, Fault):
                raise refusal(ticket)
            # Without a key nothing can have been placed before, so a hopeless request need not reach the store.
            if key is None and (fault := place.listed(ticket, self._listings(), self._limits)) is not None:
                raise refusal(fault)
            order_id = str(self._ids.uuid7())
            trace = traceparent_of(traceparent, self._ids)
            done = await self._done(PlaceOrder(asker, account_id, order_id, ticket, key or order_id, trace))
        except Refusal as error:
            ORDERS_REFUSED.labels(error.code).inc()
            raise
        if not done.replayed:
            ORDERS_PLACED.inc()
        return done

    async def cancel(self, asker: Principal, order_id: str, traceparent: str | None = None) -> Done:
        """Ask the exchange to cancel. Raises Refusal; then nothing was asked."""
        try:
            known = str(UUID(order_id))
        except ValueError:
            raise refuse(reasons.ORDER_NOT_FOUND) from None
        _trading_account(asker)
        return await self._done(CancelOrder(asker, known, traceparent_of(traceparent, self._ids)))

    async def _done(self, request: Request) -> Done:
        decided = await self._writer.submit(request)
        if isinstance(decided, Fault):
            raise refusal(decided)
        return decided

    async def _commit(self, requests: Sequence[Request]) -> list[Done | Fault]:
        """One batch. After a lost connection it is decided again: an order that got through is found by its key."""
        placing = [request for request in requests if isinstance(request, PlaceOrder)]
        want = Want(
            accounts=frozenset(request.account_id for request in placing),
            keys=frozenset((request.account_id, request.key) for request in placing),
            orders=frozenset(request.order_id for request in requests if isinstance(request, CancelOrder)),
        )
        listings, now_us = self._listings(), self._clock.now_ns() // 1000

        def decide(unit: Unit) -> list[Done | Fault]:
            return [
                place.decide(unit, request, listings, self._limits, now_us, self._ids)
                if isinstance(request, PlaceOrder)
                else cancel.decide(unit, request, now_us, self._ids)
                for request in requests
            ]

        try:
            return await self._store.write(self._asker, want, decide)
        except TRANSIENT as error:
            log.warning("store_away", error=repr(error))
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TRANSIENT),
            wait=wait_random_exponential(0.05, 0.5),
            stop=stop_after_delay(STORE_PATIENCE_S),
            reraise=True,
        )
        try:
            return await retrying(self._store.write, self._asker, want, decide)
        except TRANSIENT as error:
            raise refuse(reasons.STORE_UNAVAILABLE) from error


def _trading_account(asker: Principal) -> int:
    """Only an investor trades, and only on the account of the token."""
    if asker.role != "investor" or asker.account_id is None:
        raise refuse(reasons.ROLE_MAY_NOT_TRADE, role=asker.role)
    return asker.account_id
