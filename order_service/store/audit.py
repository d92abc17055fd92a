"""Whether the books agree with themselves: what is kept compared with what it must be. Pure; a store feeds it its rows,
all of one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from order_service.domain.breaks import Break
from order_service.domain.executions import Execution, Traded, counted
from order_service.domain.fees import fee_micros
from order_service.domain.ledger import CASH, CLEARING, FEES, SUSPENSE, Balance, Book, Transfer, reserved
from order_service.domain.order import Order
from order_service.store.unit import Account

Place = tuple[int, str]  # account and asset
BOOKS = ("available", "reserved", "unsettled")


class Booked(NamedTuple):
    """What the ledger moved for one order: cash to the exchange, shares from it, fees to the house."""

    cash_micros: int = 0
    shares: int = 0
    fee_micros: int = 0


class Audit:
    """Told about every account, every open order and every order that traded, it gives the differences."""

    def __init__(self, at_us: int) -> None:
        self._at_us = at_us
        self._found: list[Break] = []
        self._reserved: defaultdict[Place, int] = defaultdict(int)
        self._open: defaultdict[int, int] = defaultdict(int)

    def open(self, order: Order) -> None:
        holds = reserved(order)
        self._reserved[order.account_id, CASH] += holds.cash_micros
        self._reserved[order.account_id, order.symbol] += holds.shares
        self._open[order.account_id] += 1

    def traded(self, order: Order, executions: Iterable[Execution], booked: Booked) -> None:
        """An order's quantities are those of its executions, and what the ledger moved is those of the order."""
        sign = 1 if order.order_type == "buy" else -1
        told, kept = total(executions), Traded(order.cum_qty, order.cum_notional_micros)
        self._differ(f"{order.id}/executions", kept._asdict(), told._asdict(), order)
        fee = fee_micros(order.cum_qty, order.fee_per_share_micros, order.fee_min_micros)
        must = Booked(sign * order.cum_notional_micros, sign * order.cum_qty, fee)
        self._differ(f"{order.id}/ledger", must._asdict(), booked._asdict(), order)

    def strays(self, executions: Iterable[Execution], suspense: Mapping[str, int]) -> None:
        """Fills of no order of ours are what the exchange's trades left in suspense."""
        must: defaultdict[str, int] = defaultdict(int)
        for (_, symbol, side), each in _grouped(executions).items():
            came, sign = total(each), 1 if side == "buy" else -1
            must[symbol] += sign * came.quantity
            must[CASH] -= sign * came.notional_micros
        for asset in sorted(must.keys() | suspense.keys()):
            ours, theirs = {"ledger": suspense.get(asset, 0)}, {"ledger": must[asset]}
            self._differ(f"suspense/{asset}", ours, theirs)

    def found(
        self,
        accounts: Mapping[int, Account],
        positions: Mapping[Place, Balance],
        ledger: Mapping[tuple[int, str, str], int],
    ) -> list[Break]:
        """All differences, those of the balances included. `ledger` has the sum of each account, asset and book."""
        kept = {**positions} | {(number, CASH): account.cash for number, account in accounts.items()}
        places = kept.keys() | self._reserved.keys() | {(number, asset) for number, asset, _ in ledger}
        for number, asset in sorted(places):
            balance = kept.get((number, asset), Balance())
            for book in BOOKS:
                ours, theirs = getattr(balance, book), ledger.get((number, asset, book), 0)
                self._differ(f"{number}/{asset}/{book}", {"balance": ours}, {"balance": theirs}, account_id=number)
            held = self._reserved[number, asset]
            subject = f"{number}/{asset}/open orders"
            self._differ(subject, {"reserved": balance.reserved}, {"reserved": held}, account_id=number)
        for number, account in sorted(accounts.items()):
            kept_open, are_open = {"openOrders": account.open_orders}, {"openOrders": self._open[number]}
            self._differ(f"{number}/open orders", kept_open, are_open, account_id=number)
        return self._found

    def _differ(
        self,
        subject: str,
        ours: Mapping[str, int],
        theirs: Mapping[str, int],
        order: Order | None = None,
        account_id: int | None = None,
    ) -> None:
        if ours == theirs:
            return
        difference = Break(
            kind="ledger",
            subject=subject,
            ours=ours,
            theirs=theirs,
            proposal="Find the change that was booked on one side only, and post what is missing.",
            order_id=order.id if order else None,
            account_id=order.account_id if order else account_id,
            seen_us=self._at_us,
        )
        self._found.append(difference)


def total(executions: Iterable[Execution]) -> Traded:
    """What an order's executions come to, each fill with its busts and corrections."""
    fills: defaultdict[str, list[Execution]] = defaultdict(list)
    for one in executions:
        fills[one.fill_id].append(one)
    sums = [counted(about) for about in fills.values()]
    return Traded(sum(s.quantity for s in sums), sum(s.notional_micros for s in sums))


def sides(transfer: Transfer) -> Iterator[tuple[Book, int]]:
    """What a transfer adds to each of its two books."""
    yield transfer.source, -transfer.amount
    yield transfer.target, transfer.amount


def booked(transfers: Sequence[Transfer]) -> Booked:
    """What transfers of one order moved."""
    cash = shares = fee = 0
    for transfer in transfers:
        for book, amount in sides(transfer):
            if book == CLEARING and transfer.asset == CASH:
                cash += amount
            elif book == CLEARING:
                shares -= amount
            elif book == FEES:
                fee += amount
    return Booked(cash, shares, fee)


def suspense(transfers: Iterable[Transfer]) -> dict[str, int]:
    """What the exchange's trades left in suspense, by asset; what a person moved from there is not counted."""
    left: defaultdict[str, int] = defaultdict(int)
    for transfer in transfers:
        if {transfer.source, transfer.target} == {SUSPENSE, CLEARING}:
            left[transfer.asset] += transfer.amount if transfer.target == SUSPENSE else -transfer.amount
    return left


def _grouped(executions: Iterable[Execution]) -> dict[tuple[str, str, str], list[Execution]]:
    groups: defaultdict[tuple[str, str, str], list[Execution]] = defaultdict(list)
    for one in executions:
        groups[one.key.order_id, one.symbol, one.side].append(one)
    return groups
