"""GET /orders, /orders/{id}, /orders/{id}/events: what is stored, for those who may see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from infra.principal import Principal
from order_service.domain import reasons
from order_service.domain.lifecycle import Status
from order_service.store.order_json import events_bytes, order_bytes, page_bytes
from order_service.store.ports import Filter, OrderStore
from order_service.store.refusals import refuse

LIMIT_DEFAULT = 100
LIMIT_MAX = 500
_PARAMETERS = ("symbol", "status", "limit", "cursor", "accountId")


def routes(store: OrderStore, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["orders"])

    @router.get("/orders", summary="List orders, newest first")
    async def orders(
        request: Request,
        asker: Principal = Depends(principal),
        symbol: Annotated[str | None, Query()] = None,
        status: Annotated[str | None, Query(description="One status, such as PLACED.")] = None,
        limit: Annotated[str | None, Query(description=f"1 to {LIMIT_MAX}.")] = None,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
        account_id: Annotated[str | None, Query(alias="accountId", description="For the back office.")] = None,
    ) -> Response:
        """`next` is the cursor of the next page, null on the last one."""
        for name in request.query_params:
            if name not in _PARAMETERS:
                raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed=", ".join(_PARAMETERS))
        count = LIMIT_DEFAULT if limit is None else number("limit", limit, 1, LIMIT_MAX)
        wanted = Filter(
            account_id=None if account_id is None else number("accountId", account_id, 1, 2**63 - 1),
            symbol=None if symbol is None else _text("symbol", symbol),
            status=None if status is None else _status(status),
            before=None if cursor is None else _cursor(cursor),
            limit=count + 1,
        )
        found = await store.page(asker, wanted)
        page = found[:count]
        following = page[-1].id if len(found) > count else None
        return Response(page_bytes(page, following), media_type="application/json")

    @router.get("/orders/{order_id}", summary="One order")
    async def order(order_id: str, asker: Principal = Depends(principal)) -> Response:
        found = await store.find(asker, known(order_id))
        if found is None:
            raise refuse(reasons.ORDER_NOT_FOUND)
        return Response(order_bytes(found), media_type="application/json")

    @router.get("/orders/{order_id}/events", summary="Everything that happened to an order, oldest first")
    async def events(order_id: str, asker: Principal = Depends(principal)) -> Response:
        found = await store.events(asker, known(order_id))
        if not found:
            raise refuse(reasons.ORDER_NOT_FOUND)
        return Response(events_bytes(event.payload for event in found), media_type="application/json")

    return router


def known(order_id: str) -> str:
    """The id as we write it; anything that is no id names no order."""
    try:
        return str(UUID(order_id))
    except ValueError:
        raise refuse(reasons.ORDER_NOT_FOUND) from None


def number(name: str, text: str, least: int, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed=f"{least} to {most}")


def _text(name: str, text: str) -> str:
    if not text or not text.isprintable():
        raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="a symbol")
    return text


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise refuse(reasons.PARAMETER_INVALID, "status", name="status", allowed=", ".join(Status)) from None


def _cursor(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise refuse(reasons.PARAMETER_INVALID, "cursor", name="cursor", allowed="`next` of a page") from None
