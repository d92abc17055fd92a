"""POST /streams/tickets: a ticket for clients that cannot send a header when they open a stream."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Depends, Response

from api.auth.bearer import PrincipalDependency
from api.auth.tickets import Tickets
from infra.clock import NS_PER_S
from infra.principal import Principal


def router(tickets: Tickets, principal: PrincipalDependency) -> APIRouter:
    routes = APIRouter(prefix="/streams", tags=["streams"])

    @routes.post("/tickets", status_code=201, summary="A ticket that opens one stream, within 30 seconds")
    async def buy(response: Response, asker: Principal = Depends(principal)) -> dict[str, str]:
        """For a browser's EventSource or WebSocket: open the stream with `?ticket=…`. The stream ends when the token
        that bought the ticket does."""
        ticket = await tickets.issue(asker)
        response.headers["Cache-Control"] = "no-store"
        expires = datetime.fromtimestamp(ticket.expires_ns // NS_PER_S, UTC)
        return {"ticket": ticket.text, "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}

    return routes
