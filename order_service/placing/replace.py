"""ReplaceOrder, decided: pure, on a loaded batch. What holds keeps holding until the exchange answers; what is asked
for is kept beside it, and the larger of the two is reserved meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from infra.clock import Ids
from infra.principal import Principal
from order_service.domain import facts, ledger, reasons, risk
from order_service.domain.order import Order, Outcome, Ticket
from order_service.domain.reasons import Fault
from order_service.domain.risk import Question, Rules
from order_service.placing.cancel import changeable, sent
from order_service.placing.market import Market
from order_service.placing.place import Done
from order_service.store.unit import Unit


@dataclass(frozen=True, slots=True)
class ReplaceOrder:
    """New terms; what is None stays as it is. `amount_micros` is the limit price per share."""

    asker: Principal
    order_id: str
    quantity: int | None
    amount_micros: int | None
    traceparent: str


def decide(unit: Unit, request: ReplaceOrder, market: Market, rules: Rules, now_us: int, ids: Ids) -> Done | Fault:
    order = changeable(unit, request.asker, request.order_id)
    if isinstance(order, Fault):
        return order
    ticket = _terms(order, request)
    if isinstance(ticket, Fault):
        return ticket
    if not market.known:
        return Fault(reasons.MARKET_UNKNOWN)
    asked = facts.replace_requested(order, order.requests + 1, ticket.quantity, ticket.amount_micros, now_us)
    if (fault := risk.first(_question(unit, order, asked, ticket, market, rules, now_us))) is not None:
        return fault
    return sent(unit, asked, "OrderReplaceRequested", request.asker, request.traceparent, ids)


def _terms(order: Order, request: ReplaceOrder) -> Ticket | Fault:
    """The order as it is asked to be, or why it cannot be asked."""
    if order.type == "MARKET":
        return Fault(reasons.REPLACE_OF_MARKET)
    if order.outcome is Outcome.PARKED:
        return Fault(reasons.ORDER_PARKED)
    quantity = order.quantity if request.quantity is None else request.quantity
    amount_micros = order.amount_micros if request.amount_micros is None else request.amount_micros
    if (quantity, amount_micros) == (order.quantity, order.amount_micros):
        return Fault(reasons.REPLACE_WITHOUT_CHANGE)
    if quantity <= order.cum_qty:
        return Fault(reasons.REPLACE_TOO_LATE, "quantity", {"quantity": quantity, "filled": order.cum_qty})
    return Ticket(order.order_type, order.type, order.symbol, quantity, amount_micros, order.tif)


def _question(
    unit: Unit, order: Order, asked: Order, ticket: Ticket, market: Market, rules: Rules, now_us: int
) -> Question:
    """What is needed is what is reserved beyond the present while the exchange has not answered."""
    account = unit.accounts[order.account_id]
    held, needed = ledger.reserved(order), ledger.reserved(asked)
    return Question(
        ticket=ticket,
        rules=rules,
        now_us=now_us,
        listing=market.listings.get(order.symbol),
        quote=market.quotes.of(order.symbol),
        market_open=market.open,
        halted=market.halted(order.symbol),
        stop=market.stop(order.symbol, account.id),
        account_id=account.id,
        account_active=account.status == "active",
        free_cash_micros=account.cash.free,
        free_shares=unit.position(account.id, order.symbol).free,
        needed_cash_micros=needed.cash_micros - held.cash_micros,
        needed_shares=needed.shares - held.shares,
        open_orders=account.open_orders,
        in_second=0,
        repeated_us=None,
        replaces=True,
    )
