"""Misbehaviour by request: the rules in force, and fills that a person takes back or puts right."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from exchange_gateway.simulator.answers import json_response, read, reports_answer, understood
from exchange_gateway.simulator.chaos import SCENARIO_BYTES_MAX, Chaos, ScenarioError, rules_of
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.messages import VenueError
from infra.contracts import encode


class Correction(msgspec.Struct, frozen=True):
    """The right terms of a fill."""

    last_qty: int
    last_micros: int


def routes(desk: Desk, chaos: Chaos, is_allowed: bool) -> APIRouter:
    async def allowed() -> None:
        if not is_allowed:
            raise VenueError(403, "chaos_not_allowed", "This venue does not misbehave; XGW_CHAOS_ALLOWED is not set.")

    router = APIRouter(tags=["misbehaviour"], dependencies=[Depends(allowed)])

    def shown() -> Response:
        return json_response(encode({"rules": chaos.shown()}))

    @router.get("/chaos")
    async def show() -> Response:
        return shown()

    @router.post("/chaos")
    async def add(request: Request) -> Response:
        try:
            chaos.add(rules_of(await read(request, SCENARIO_BYTES_MAX)))
        except ScenarioError as error:
            raise VenueError(400, "malformed", str(error)) from error
        return shown()

    @router.delete("/chaos")
    async def clear() -> Response:
        chaos.clear()
        return shown()

    @router.post("/executions/{exec_id}/bust")
    async def bust(exec_id: str) -> Response:
        return json_response(reports_answer(desk.bust(exec_id)))

    @router.post("/executions/{exec_id}/correct")
    async def correct(exec_id: str, request: Request) -> Response:
        right = understood(await read(request), Correction)
        return json_response(reports_answer(desk.correct(exec_id, right.last_qty, right.last_micros)))

    return router
