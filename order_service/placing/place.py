"""PlaceOrder, decided: pure, on a loaded batch. The order, its event and the command to the exchange are one change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from infra.clock import Ids
from infra.contracts import Command, OrdType, Side, Tif, cl_ord_id
from infra.principal import Principal
from order_service.domain import ledger, reasons, risk
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Outcome, Ticket
from order_service.domain.reasons import Fault
from order_service.domain.risk import US_PER_S, Question, Rules
from order_service.placing.idempotency import differing
from order_service.placing.market import Market
from order_service.store.unit import Account, Change, Unit

# An order that shall trade at once is for the market of now: after an outage it is not sent any more.
AT_ONCE_US = 30 * US_PER_S
RECENT_MAX = 8


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """A request to place an order. `order_id` is given before the batch, so that the batch can be repeated; without a
    key of the client's it is the key too."""

    asker: Principal
    account_id: int
    order_id: str
    ticket: Ticket
    key: str
    request_hash: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Done:
    """The order after a request. `replayed`: an earlier request with the same key had done it; else `payload` is the
    event of it, where the order is written already."""

    order: Order
    replayed: bool = False
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The order as it would be placed, and what its checks are asked."""

    order: Order
    question: Question


def decide(unit: Unit, request: PlaceOrder, market: Market, rules: Rules, now_us: int, ids: Ids) -> Done | Fault:
    """A repeated request is recognised before anything that may have changed since is asked."""
    account = unit.accounts.get(request.account_id)
    if account is None:
        return Fault(reasons.ACCOUNT_UNKNOWN, details={"account": request.account_id})
    if (known := unit.first_of_key(account.id, request.key)) is not None:
        return _again(known, request)
    if not market.known:
        return Fault(reasons.MARKET_UNKNOWN)
    asked = _asked(unit, account, request, market, rules, now_us)
    if (fault := risk.first(asked.question)) is not None:
        return fault
    _remember(account, request.request_hash, now_us, rules.duplicate_us)
    change = Change(
        type="OrderPlaced",
        cause=f"client:{request.asker.subject}",
        event_id=ids.text7(),
        traceparent=request.traceparent,
    )
    order = unit.record(asked.order, change)
    unit.command(_submit(order, ids.text7()), request.traceparent)
    return Done(order, payload=unit.events[-1].payload)


def preview(unit: Unit, request: PlaceOrder, market: Market, rules: Rules, now_us: int) -> Asked | Fault:
    """The same decision, all of its checks, and nothing recorded."""
    account = unit.accounts.get(request.account_id)
    if account is None:
        return Fault(reasons.ACCOUNT_UNKNOWN, details={"account": request.account_id})
    if not market.known:
        return Fault(reasons.MARKET_UNKNOWN)
    return _asked(unit, account, request, market, rules, now_us)


def _again(known: Order, request: PlaceOrder) -> Done | Fault:
    if known.id == request.order_id:
        return Done(known)  # this very request: its batch was committed, but the answer got lost on the way to us
    if known.request_hash == request.request_hash:
        return Done(known, replayed=True)
    fields = differing(request.ticket, known)
    details: Mapping[str, object] = {"fields": ", ".join(fields), "orderId": known.id}
    return Fault(reasons.KEY_REUSED, "Idempotency-Key", details)


def _asked(unit: Unit, account: Account, request: PlaceOrder, market: Market, rules: Rules, now_us: int) -> Asked:
    ticket = request.ticket
    symbol = ticket.symbol
    listing, quote = market.listings.get(symbol), market.quotes.of(symbol)
    reserve_micros = risk.reserve_micros(ticket, quote, listing, rules)
    order = _order(request, account, rules, reserve_micros, now_us)
    needed = ledger.reserved(order)
    sells = ticket.order_type == "sell"
    priced = sells or ticket.amount_micros is not None or reserve_micros is not None
    question = Question(
        ticket=ticket,
        rules=rules,
        now_us=now_us,
        listing=listing,
        quote=quote,
        market_open=market.open,
        halted=market.halted(symbol),
        stop=market.stop(symbol, account.id),
        account_id=account.id,
        account_active=account.status == "active",
        free_cash_micros=account.cash.free,
        free_shares=unit.position(account.id, symbol).free if sells else 0,
        needed_cash_micros=needed.cash_micros if priced else None,
        needed_shares=needed.shares,
        open_orders=account.open_orders,
        in_second=account.in_second if now_us // US_PER_S <= account.second else 0,
        repeated_us=_repeated_us(account, request, now_us),
        replaces=False,
    )
    return Asked(order, question)


def _repeated_us(account: Account, request: PlaceOrder, now_us: int) -> int | None:
    if request.key != request.order_id:  # a client that sends keys says itself which orders are the same
        return None
    placed = [at_us for seen, at_us in account.recent if seen == request.request_hash]
    return max(now_us - placed[-1], 0) if placed else None


def _remember(account: Account, request_hash: str, now_us: int, duplicate_us: int) -> None:
    """For the next order's checks: how many there were in this second, and which ones it could repeat."""
    second = now_us // US_PER_S
    if second > account.second:
        account.second, account.in_second = second, 0
    account.in_second += 1
    fresh = [one for one in account.recent[1 - RECENT_MAX :] if now_us - one[1] < duplicate_us]
    account.recent = (*fresh, (request_hash, now_us)) if duplicate_us else ()


def _order(request: PlaceOrder, account: Account, rules: Rules, reserve_micros: int | None, now_us: int) -> Order:
    ticket = request.ticket
    at_once = ticket.type == "MARKET" or ticket.tif in ("IOC", "FOK")
    return Order(
        id=request.order_id,
        account_id=request.account_id,
        order_type=ticket.order_type,
        type=ticket.type,
        symbol=ticket.symbol,
        quantity=ticket.quantity,
        amount_micros=ticket.amount_micros,
        tif=ticket.tif,
        status=Status.PENDING,
        standing=Status.PENDING,
        pending=None,
        outcome=Outcome.UNSENT,
        cum_qty=0,
        leaves_qty=ticket.quantity,
        cum_notional_micros=0,
        exchange_order_id=None,
        cl_ord_id=cl_ord_id(request.order_id, 1),
        replaces=None,
        requests=1,
        asked_quantity=None,
        asked_micros=None,
        venue_seq=0,
        terms_seq=0,
        reserve_micros=reserve_micros,
        fee_per_share_micros=rules.fees.per_share_micros(account.earlier_shares),
        fee_min_micros=rules.fees.min_micros,
        idempotency_key=request.key,
        request_hash=request.request_hash,
        reason=None,
        attempts=0,
        next_attempt_us=None,
        # A DAY order may be sent until its session ends; nobody says beforehand when that will be.
        not_after_us=now_us + AT_ONCE_US if at_once else None,
        version=1,
        account_seq=account.seq + 1,
        created_us=now_us,
        updated_us=now_us,
    )


def _submit(order: Order, event_id: str) -> Command:
    return Command(
        kind="submit",
        event_id=event_id,
        order_id=order.id,
        account_id=order.account_id,
        cl_ord_id=order.cl_ord_id,
        symbol=order.symbol,
        order_type=cast(Side, order.order_type),
        type=cast(OrdType, order.type),
        tif=cast(Tif, order.tif),
        quantity=order.quantity,
        limit_micros=order.amount_micros,
        not_after_ns=None if order.not_after_us is None else order.not_after_us * 1000,
        idempotency_key=order.idempotency_key,
        requested_ns=order.created_us * 1000,
    )
