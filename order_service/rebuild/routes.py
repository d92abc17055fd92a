"""/ops/orders/rebuild: do the orders follow from their events?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from infra.principal import Principal
from order_service.domain import reasons
from order_service.rebuild.compare import Difference, differences
from order_service.store.ports import Watch
from order_service.store.refusals import refuse

PAGE = 200
SHOWN_MAX = 200
_encoder = msgspec.json.Encoder()


def routes(watch: Watch, operator: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["ops"])

    @router.get("/ops/orders/rebuild", summary="Rebuild every order from its events and compare")
    async def rebuild(
        _: Principal = Depends(operator),
        check: Annotated[bool, Query(description="Must be true: nothing is ever rewritten.")] = False,
    ) -> Response:
        """`differing` counts all differences, `differences` holds the first of them."""
        if not check:
            raise refuse(reasons.REBUILD_ONLY_CHECKS, "check")
        return Response(_encoder.encode(await checked(watch)), media_type="application/json")

    return router


async def checked(watch: Watch) -> dict[str, Any]:
    orders = differing = 0
    shown: list[dict[str, Any]] = []
    after: str | None = None
    while page := await watch.histories_after(after, PAGE):
        for order, events in page:
            found = list(differences(order, events))
            if found:
                found = await _looked_again(watch, after)
            orders += 1
            differing += len(found)
            shown += [_said(one) for one in found[: SHOWN_MAX - len(shown)]]
            after = order.id if order is not None else events[0].order_id
    return {"orders": orders, "differing": differing, "differences": shown}


async def _looked_again(watch: Watch, after: str | None) -> list[Difference]:
    """The order behind `after` once more: it may have changed between the reading of its row and of its events."""
    page = await watch.histories_after(after, 1)
    return [one for order, events in page for one in differences(order, events)]


def _said(one: Difference) -> dict[str, Any]:
    return {"orderId": one.order_id, "field": one.field, "stored": one.stored, "rebuilt": one.rebuilt}
