"""The books: what each change of an order moves, in double entry. Pure.

A transfer takes an amount of one asset from one book to another, so every entry is balanced by construction; there is
no way to write one side alone. What an order has reserved and what it has booked are functions of the order, and a
change moves the difference between after and before: the sum over all changes depends on the order's end only.

Books of an account, for cash (asset `USD`, micros) and for each symbol (shares): `available`, `reserved` (by open
orders) and `unsettled` (traded, settled later). Books of the house (account 0): `clearing` (the exchange's side of all
trades), `fees`, `bank`, `suspense` (fills that belong to no order of ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from order_service.domain.fees import fee_micros
from order_service.domain.order import Order, Pending

HOUSE = 0
CASH = "USD"


class Book(NamedTuple):
    account_id: int
    name: str


CLEARING = Book(HOUSE, "clearing")
FEES = Book(HOUSE, "fees")
BANK = Book(HOUSE, "bank")
SUSPENSE = Book(HOUSE, "suspense")


class Transfer(NamedTuple):
    """`amount` is above 0: micros of cash, or shares."""

    asset: str
    amount: int
    source: Book
    target: Book


@dataclass(slots=True)
class Balance:
    """One asset of one account. Each part may be negative: a fill counts even when it was not reserved."""

    available: int = 0
    reserved: int = 0
    unsettled: int = 0

    @property
    def free(self) -> int:
        """What may be used for a new order: unsettled proceeds count, unsettled debts too."""
        return self.available + self.unsettled

    @property
    def total(self) -> int:
        return self.available + self.reserved + self.unsettled


class Reserved(NamedTuple):
    cash_micros: int
    shares: int


NOTHING = Reserved(0, 0)


def reserved(order: Order) -> Reserved:
    """What an order holds back: a sell its open shares; a buy the price of what is open and the fee that can still
    come. While a replace is pending, the larger of what holds and what is asked for."""
    if order.final:
        return NOTHING
    quantity, price = order.quantity, order.amount_micros or order.reserve_micros or 0
    if order.pending is Pending.REPLACE:
        quantity = max(quantity, order.asked_quantity or 0)
        price = max(price, order.asked_micros or 0)
    leaves = max(quantity - order.cum_qty, 0)
    if order.order_type == "sell":
        return Reserved(0, leaves)
    return Reserved(leaves * price + _fee(order, order.cum_qty + leaves) - _fee(order, order.cum_qty), 0)


def transfers(before: Order | None, after: Order) -> list[Transfer]:
    """What the change from `before` (None: the order is new) to `after` moves."""
    held = NOTHING if before is None else reserved(before)
    holds = reserved(after)
    traded = before is not None and (
        after.cum_qty != before.cum_qty or after.cum_notional_micros != before.cum_notional_micros
    )
    if holds == held and not traded:
        return []
    own = after.account_id
    available, kept, unsettled = Book(own, "available"), Book(own, "reserved"), Book(own, "unsettled")
    moves: list[Transfer] = []
    if before is not None and traded:
        shares = after.cum_qty - before.cum_qty
        cash = after.cum_notional_micros - before.cum_notional_micros
        sign = 1 if after.order_type == "buy" else -1
        _move(moves, CASH, sign * cash, unsettled, CLEARING)
        _move(moves, after.symbol, sign * shares, CLEARING, unsettled)
        _move(moves, CASH, _fee(after, after.cum_qty) - _fee(before, before.cum_qty), unsettled, FEES)
    _move(moves, CASH, holds.cash_micros - held.cash_micros, available, kept)
    _move(moves, after.symbol, holds.shares - held.shares, available, kept)
    return moves


def suspended(symbol: str, side: str, shares: int, cash_micros: int) -> list[Transfer]:
    """A fill that belongs to no order of ours: the exchange will settle it with the house, so the house books it."""
    moves: list[Transfer] = []
    sign = 1 if side == "buy" else -1
    _move(moves, CASH, sign * cash_micros, SUSPENSE, CLEARING)
    _move(moves, symbol, sign * shares, CLEARING, SUSPENSE)
    return moves


def deposited(account_id: int, asset: str, amount: int) -> Transfer:
    """Cash or shares that come from outside (`amount` above 0)."""
    return Transfer(asset, amount, BANK, Book(account_id, "available"))


def _fee(order: Order, filled: int) -> int:
    return fee_micros(filled, order.fee_per_share_micros, order.fee_min_micros)


def _move(moves: list[Transfer], asset: str, amount: int, source: Book, target: Book) -> None:
    if amount > 0:
        moves.append(Transfer(asset, amount, source, target))
    elif amount < 0:
        moves.append(Transfer(asset, -amount, target, source))
