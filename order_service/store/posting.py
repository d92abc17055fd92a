"""Booking what no order caused, on either store."""

from __future__ import annotations

from collections.abc import Sequence

from infra.principal import Principal
from order_service.domain.ledger import HOUSE, Transfer
from order_service.store.ports import ConflictError, OrderStore
from order_service.store.unit import Unit, Want


async def post(store: OrderStore, asker: Principal, transfers: Sequence[Transfer], entry_id: str, at_us: int) -> bool:
    """False when the entry is booked already. Raises PermissionError for an investor, LookupError for an account that
    does not exist."""
    if asker.role == "investor":
        raise PermissionError("an investor cannot book")
    places = {
        (book.account_id, transfer.asset)
        for transfer in transfers
        for book in (transfer.source, transfer.target)
        if book.account_id != HOUSE
    }
    accounts = frozenset(account for account, _ in places)

    def book(unit: Unit) -> None:
        if missing := accounts - unit.accounts.keys():
            raise LookupError(f"no account {min(missing)}")
        unit.book(list(transfers), entry_id, None, at_us)

    try:
        await store.write(asker, Want(accounts=accounts, positions=frozenset(places)), book)
    except ConflictError:
        return False  # the only rows that can be there already are the entry's own
    return True
