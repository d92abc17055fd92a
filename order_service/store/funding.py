"""Money and shares from outside, for accounts that shall be able to trade: the demo's, and those of tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from infra.principal import Principal
from order_service.domain.ledger import CASH, Transfer, deposited
from order_service.domain.money import MICROS_PER_UNIT
from order_service.store.ports import Books

_NAMESPACE = UUID("0f1f7c0a-52b6-5c4e-9b39-9a3a0a3c7f55")


@dataclass(frozen=True, slots=True)
class Funds:
    """What an account is given: cash in micros, shares by symbol."""

    cash_micros: int = 0
    shares: Mapping[str, int] = field(default_factory=dict)


NO_FUNDS = Funds()
DEMO_ACCOUNTS = (1, 2, 3, 4, 5)
# The symbols with which the synthetic tape begins.
DEMO_FUNDS = Funds(10_000_000 * MICROS_PER_UNIT, dict.fromkeys(("SPY", "AAPL", "BAC", "IBM", "GOOG", "AIG"), 10_000))


async def fund(books: Books, asker: Principal, account_id: int, funds: Funds, occasion: str = "opening") -> bool:
    """Give an account the funds, once per occasion. False when it has them already."""
    return await books.post(asker, deposits(account_id, funds), entry_id(account_id, occasion))


def deposits(account_id: int, funds: Funds) -> list[Transfer]:
    given = {CASH: funds.cash_micros, **funds.shares}
    return [deposited(account_id, asset, amount) for asset, amount in given.items() if amount > 0]


def entry_id(account_id: int, occasion: str) -> str:
    """The same occasion is the same entry, so that a deposit can be repeated without being doubled."""
    return str(uuid5(_NAMESPACE, f"{account_id}:{occasion}"))
