"""GET /account and GET /positions: what an account has, for those who may see it. Amounts are exact JSON numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Raw

from infra.principal import Principal
from order_service.domain import reasons
from order_service.domain.money import text_of
from order_service.history.routes import number
from order_service.store.ports import Books
from order_service.store.refusals import refuse

JSON = "application/json"
_encoder = msgspec.json.Encoder()
_AccountId = Annotated[str | None, Query(alias="accountId", description="For the back office.")]


class CashJson(msgspec.Struct, frozen=True, gc=False):
    """USD. `unsettled` is what sales brought and purchases cost that is not settled yet: below 0 when it is owed."""

    available: Raw
    reserved: Raw
    unsettled: Raw


class AccountJson(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """`buying_power` is what a new order may reserve: available and unsettled together."""

    account_id: int
    status: str
    cash: CashJson
    buying_power: Raw
    open_orders: int


class PositionJson(msgspec.Struct, frozen=True, gc=False):
    """Shares: `quantity` is all of them, `reserved` those that open sells hold back."""

    symbol: str
    quantity: int
    available: int
    reserved: int
    unsettled: int


def routes(books: Books, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["account"])

    @router.get("/account", summary="Cash, buying power and status")
    async def account(
        request: Request, asker: Principal = Depends(principal), account_id: _AccountId = None
    ) -> Response:
        """Of the token's account; the back office says which."""
        wanted = _wanted(request, asker, account_id)
        found = await books.account(asker, wanted)
        if found is None:
            raise refuse(reasons.ACCOUNT_UNKNOWN, account=wanted)
        cash = CashJson(_usd(found.cash.available), _usd(found.cash.reserved), _usd(found.cash.unsettled))
        shown = AccountJson(found.id, found.status, cash, _usd(found.cash.free), found.open_orders)
        return Response(_encoder.encode(shown), media_type=JSON)

    @router.get("/positions", summary="Shares held, by symbol")
    async def positions(
        request: Request, asker: Principal = Depends(principal), account_id: _AccountId = None
    ) -> Response:
        """Of the token's account; the back office says which."""
        wanted = _wanted(request, asker, account_id)
        if await books.account(asker, wanted) is None:
            raise refuse(reasons.ACCOUNT_UNKNOWN, account=wanted)
        found = await books.positions(asker, wanted)
        shown = [
            PositionJson(symbol, held.total, held.available, held.reserved, held.unsettled)
            for symbol, held in sorted(found.items())
        ]
        return Response(_encoder.encode({"positions": shown}), media_type=JSON)

    return router


def _wanted(request: Request, asker: Principal, account_id: str | None) -> int:
    for name in request.query_params:
        if name != "accountId":
            raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="accountId")
    if account_id is not None:
        return number("accountId", account_id, 1, 2**63 - 1)
    if asker.account_id is None:
        raise refuse(reasons.ACCOUNT_REQUIRED, "accountId")
    return asker.account_id


def _usd(micros: int) -> Raw:
    return Raw(text_of(micros).encode())
