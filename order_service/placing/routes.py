"""POST /orders, PATCH and DELETE /orders/{id}: what clients ask of their orders. POST is the hot path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from infra.principal import Principal
from order_service.domain import reasons
from order_service.placing.bodies import PLACE_DOC, REPLACE_DOC, place_body, replace_body
from order_service.placing.desk import Desk
from order_service.placing.preview import preview_bytes
from order_service.store.order_json import order_bytes
from order_service.store.refusals import refuse

JSON = "application/json"


def routes(desk: Desk, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["orders"])

    @router.post("/orders", status_code=201, openapi_extra=PLACE_DOC, summary="Place an order")
    async def place(
        request: Request,
        asker: Principal = Depends(principal),
        preview: Annotated[str | None, Query(description="true: say what would happen, store nothing.")] = None,
        idempotency_key: Annotated[str | None, Header()] = None,
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Stored when this answers 201; the exchange's word comes later, in the order and on GET /orders/stream.

        With `preview=true` the answer is 200: whether the order would be accepted, its cost and fee, and every check.
        """
        for name in request.query_params:
            if name != "preview":
                raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="preview")
        wanted = place_body(await request.body()).wanted()
        if preview is not None and _true("preview", preview):
            return Response(preview_bytes(await desk.preview(asker, **wanted)), 200, media_type=JSON)
        placed = await desk.place(asker, key=idempotency_key, traceparent=traceparent, **wanted)
        headers = {"Location": f"/orders/{placed.order_id}"}
        if placed.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(placed.body, 201, headers, JSON)

    @router.patch("/orders/{order_id}", status_code=202, openapi_extra=REPLACE_DOC, summary="Ask for new terms")
    async def replace(
        request: Request,
        order_id: str,
        asker: Principal = Depends(principal),
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Quantity (all of it, what is filled included), amount or both. What holds keeps holding, `pending: "replace"`
        and `asked`, until the exchange answers."""
        body = replace_body(await request.body())
        order = await desk.replace(asker, order_id, quantity=body.quantity, amount=body.amount, traceparent=traceparent)
        return Response(order_bytes(order), 202, media_type=JSON)

    @router.delete("/orders/{order_id}", status_code=202, summary="Ask for an order's cancellation")
    async def cancel(
        order_id: str,
        asker: Principal = Depends(principal),
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The order stays open, `pending: "cancel"`, until the exchange answers. Taken always, whatever is halted,
        blocked or switched off; only while a replace is on its way, its answer has to be waited for."""
        return Response(order_bytes(await desk.cancel(asker, order_id, traceparent)), 202, media_type=JSON)

    return router


def _true(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="true or false")
    return text == "true"
