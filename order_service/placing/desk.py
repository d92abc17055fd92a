"""The use cases of the clients' side: place, preview, replace, cancel. A batch mixes them, in arrival order, for any
accounts; what is decided about each is in `place`, `replace` and `cancel`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from infra.clock import Clock, Ids
from infra.db import TRANSIENT
from infra.principal import Principal, system
from infra.refusal import Refusal
from infra.telemetry import ORDERS_PLACED, ORDERS_REFUSED
from order_service.domain import checks, reasons
from order_service.domain.order import Order
from order_service.domain.reasons import Fault
from order_service.domain.risk import Rules
from order_service.placing import cancel, place, replace
from order_service.placing.cancel import CancelOrder
from order_service.placing.idempotency import Keys, request_hash, valid_key
from order_service.placing.market import Market
from order_service.placing.place import Asked, Done, PlaceOrder
from order_service.placing.replace import ReplaceOrder
from order_service.placing.writer import Writer
from order_service.store.order_json import id_in, order_in
from order_service.store.ports import ConflictError, OrderStore
from order_service.store.refusals import refusal, refuse
from order_service.store.traces import traceparent_of
from order_service.store.unit import Unit, Want

log = structlog.get_logger(__name__)
T = TypeVar("T")
Request = PlaceOrder | ReplaceOrder | CancelOrder

# How long a request waits for a store that is away; below the time that a stopping process is given.
STORE_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Placed:
    """The answer to POST /orders, byte for byte the first one when it is `replayed`."""

    order_id: str
    body: bytes
    replayed: bool


class Desk:
    """`market` gives what is known of the market now; the bounds are those of the group commit."""

    def __init__(
        self,
        store: OrderStore,
        market: Callable[[], Market],
        keys: Keys,
        rules: Rules,
        clock: Clock,
        ids: Ids,
        queue_max: int,
        batch_max: int,
    ) -> None:
        self._store = store
        self._market = market
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._ids = ids
        self._asker = system("order-desk")
        self._writer: Writer[Request, Done | Fault] = Writer(self._commit, queue_max, batch_max)

    async def run(self, stop: asyncio.Event) -> None:
        await self._writer.run(stop)

    async def place(
        self, asker: Principal, *, key: str | None = None, traceparent: str | None = None, **wanted: Any
    ) -> Placed:
        """Store an order for the asker's account; `wanted` is what `checks.ticket` takes. Raises Refusal; then nothing
        was stored."""
        try:
            request = self._request(asker, key, traceparent, wanted)
            placed = await (self._placed(request) if key is None else self._placed_once(request))
        except Refusal as error:
            ORDERS_REFUSED.labels(error.code).inc()
            raise
        if not placed.replayed:
            ORDERS_PLACED.inc()
        return placed

    async def preview(self, asker: Principal, **wanted: Any) -> Asked:
        """What placing this order would do. Raises Refusal where that cannot be told."""
        request = self._request(asker, None, None, wanted)
        market, now_us = self._market(), self._now_us()

        def decide(unit: Unit) -> Asked | Fault:
            return place.preview(unit, request, market, self._rules, now_us)

        asked = await self._patiently(_want([request]), decide)
        if isinstance(asked, Fault):
            raise refusal(asked)
        return asked

    async def replace(
        self,
        asker: Principal,
        order_id: str,
        *,
        quantity: int | float | None = None,
        amount: Decimal | None = None,
        traceparent: str | None = None,
    ) -> Order:
        """Ask the exchange for new terms. Raises Refusal; then nothing was asked."""
        known = _known(order_id)
        _trading_account(asker)
        terms = checks.terms(quantity, amount)
        if isinstance(terms, Fault):
            raise refusal(terms)
        trace = traceparent_of(traceparent, self._ids)
        return (await self._done(ReplaceOrder(asker, known, *terms, trace))).order

    async def cancel(self, asker: Principal, order_id: str, traceparent: str | None = None) -> Order:
        """Ask the exchange to cancel. Raises Refusal; then nothing was asked."""
        known = _known(order_id)
        _trading_account(asker)
        return (await self._done(CancelOrder(asker, known, traceparent_of(traceparent, self._ids)))).order

    def _request(
        self, asker: Principal, key: str | None, traceparent: str | None, wanted: dict[str, Any]
    ) -> PlaceOrder:
        account_id = _trading_account(asker)
        if key is not None and not valid_key(key):
            raise refuse(reasons.KEY_INVALID, "Idempotency-Key")
        ticket = checks.ticket(**wanted)
        if isinstance(ticket, Fault):
            raise refusal(ticket)
        order_id, trace = self._ids.text7(), traceparent_of(traceparent, self._ids)
        return PlaceOrder(asker, account_id, order_id, ticket, key or order_id, request_hash(ticket), trace)

    async def _placed_once(self, request: PlaceOrder) -> Placed:
        """With a key of the client's: the cache may know its answer. If not, the database decides."""
        claim = await self._keys.claim(request.account_id, request.key, request.request_hash)
        if claim.state == "in_flight":
            raise refuse(reasons.REQUEST_IN_FLIGHT, "Idempotency-Key")
        if claim.state == "finished":
            return Placed(id_in(claim.body), claim.body, replayed=True)
        try:
            placed = await self._placed(request)
        except Exception:
            await self._keys.released(claim)
            raise
        self._keys.finished(claim, placed.body)
        return placed

    async def _placed(self, request: PlaceOrder) -> Placed:
        done = await self._done(request)
        return Placed(done.order.id, await self._first_answer(request.asker, done), done.replayed)

    async def _first_answer(self, asker: Principal, done: Done) -> bytes:
        """The order as it was placed: it may have changed since an earlier request placed it."""
        if done.payload is not None:
            return order_in(done.payload)
        try:
            return order_in((await self._store.events(asker, done.order.id))[0].payload)
        except TRANSIENT as error:
            raise refuse(reasons.STORE_UNAVAILABLE) from error

    async def _done(self, request: Request) -> Done:
        decided = await self._writer.submit(request)
        if isinstance(decided, Fault):
            raise refusal(decided)
        return decided

    async def _commit(self, requests: Sequence[Request]) -> list[Done | Fault]:
        """One batch. After a lost connection it is decided again: an order that got through is found by its key."""
        market, now_us = self._market(), self._now_us()

        def decide(unit: Unit) -> list[Done | Fault]:
            return [self._decide(unit, request, market, now_us) for request in requests]

        return await self._patiently(_want(requests), decide)

    def _decide(self, unit: Unit, request: Request, market: Market, now_us: int) -> Done | Fault:
        if isinstance(request, PlaceOrder):
            return place.decide(unit, request, market, self._rules, now_us, self._ids)
        if isinstance(request, ReplaceOrder):
            return replace.decide(unit, request, market, self._rules, now_us, self._ids)
        return cancel.decide(unit, request, now_us, self._ids)

    async def _patiently(self, want: Want, decide: Callable[[Unit], T]) -> T:
        try:
            return await self._store.write(self._asker, want, decide)
        except TRANSIENT as error:
            log.warning("store_away", error=repr(error))
        except ConflictError as error:  # somebody else was first: decided again, on what is stored now
            log.warning("race_lost", error=repr(error))
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

    def _now_us(self) -> int:
        return self._clock.now_ns() // 1000


def _want(requests: Sequence[Request]) -> Want:
    placing = [request for request in requests if isinstance(request, PlaceOrder)]
    return Want(
        accounts=frozenset(request.account_id for request in placing),
        keys=frozenset((request.account_id, request.key) for request in placing),
        orders=frozenset(request.order_id for request in requests if not isinstance(request, PlaceOrder)),
        positions=frozenset(
            (request.account_id, request.ticket.symbol) for request in placing if request.ticket.order_type == "sell"
        ),
    )


def _known(order_id: str) -> str:
    try:
        return str(UUID(order_id))
    except ValueError:
        raise refuse(reasons.ORDER_NOT_FOUND) from None


def _trading_account(asker: Principal) -> int:
    """Only an investor trades, and only on the account of the token."""
    if asker.role != "investor" or asker.account_id is None:
        raise refuse(reasons.ROLE_MAY_NOT_TRADE, role=asker.role)
    return asker.account_id
