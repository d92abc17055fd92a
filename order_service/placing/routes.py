"""POST /orders, PATCH and DELETE /orders/{id}: what clients ask of their orders. POST is the hot path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Header, Request, Response

from infra.direct import JSON, Answer, Asked, Handler
from infra.principal import Principal
from order_service.domain import reasons
from order_service.placing.bodies import PLACE_DOC, REPLACE_DOC, place_body, replace_body
from order_service.placing.desk import Desk
from order_service.placing.preview import preview_bytes
from order_service.store.order_json import order_bytes
from order_service.store.refusals import refuse


def routes(desk: Desk, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["orders"])

    placing = place_handler(desk)

    @router.post("/orders", status_code=201, openapi_extra=PLACE_DOC, summary="Place an order")
    async def place(request: Request, asker: Principal = Depends(principal)) -> Response:
        """Stored when this answers 201; the exchange's word comes later, in the order and on GET /orders/stream.

        With `preview=true` the answer is 200: whether the order would be accepted, its cost and fee, and every check.
        """
        answer = await placing(asker, Asked(request.url.query, request.headers, await request.body()))
        return Response(answer.body, answer.status, answer.headers, answer.media_type)

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


def place_handler(desk: Desk) -> Handler:
    """POST /orders as one function, for the ordinary route and for the direct one."""

    async def place(asker: Principal, asked: Asked) -> Answer:
        preview = _preview(asked.query) if asked.query else False
        wanted = place_body(asked.body).wanted()
        if preview:
            return Answer(200, preview_bytes(await desk.preview(asker, **wanted)))
        headers = asked.headers
        placed = await desk.place(
            asker, key=headers.get("idempotency-key"), traceparent=headers.get("traceparent"), **wanted
        )
        answered = {"Location": f"/orders/{placed.order_id}"}
        if placed.replayed:
            answered["Idempotent-Replayed"] = "true"
        return Answer(201, placed.body, answered)

    return place


def _preview(query: str) -> bool:
    """The only parameter of POST /orders."""
    wanted = False
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "preview":
            raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="preview")
        if value not in ("true", "false"):
            raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed="true or false")
        wanted = value == "true"
    return wanted
