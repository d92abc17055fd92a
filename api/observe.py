"""Around every request: its id, its duration, and a decent answer when something of ours breaks.

Plain ASGI, because a wrapper that holds the answer back would break event streams.
"""

from __future__ import annotations

import re
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal
from infra.clock import Clock, Ids
from infra.telemetry import HTTP_SECONDS

log = structlog.get_logger(__name__)

HEADER = b"x-request-id"
# A caller's id is kept when it is harmless in a log line.
ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
UNMATCHED = "unmatched"


class Observed:
    """Gives each request an id (log lines, header, problem documents), measures it, and answers 500 for it."""

    def __init__(self, app: ASGIApp, clock: Clock, ids: Ids) -> None:
        self._app = app
        self._clock = clock
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _callers_id(scope) or self._ids.hex7()
        scope.setdefault("state", {})["request_id"] = request_id
        started_s = self._clock.monotonic_s()
        answered = False

        async def observed(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id.encode())]
                seconds = self._clock.monotonic_s() - started_s
                HTTP_SECONDS.labels(route_of(scope), str(message["status"])).observe(seconds)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, observed)
            except Exception:
                log.exception("request_failed", method=scope["method"], route=route_of(scope))
                if answered:
                    raise  # Too late for a decent answer: the server cuts the connection, so nobody takes it for whole.
                await internal(request_id)(scope, receive, observed)


def route_of(scope: Scope) -> str:
    """`GET /orders/{order_id}`: the template, so that the number of label values is bounded."""
    route: Any = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if path is None or scope["method"] not in (getattr(route, "methods", None) or ()):
        return UNMATCHED
    return f"{scope['method']} {path}"


def _callers_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER and ACCEPTED_ID.fullmatch(value):
            return str(value, "ascii")
    return None
