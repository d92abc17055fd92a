"""The routes that are asked thousands of times a second, answered without the framework's routing and dependencies.

They stay ordinary routes too: in the OpenAPI document, and as what answers when this is switched off (`direct_routes`).
Both ways share the handler, the bearer check, the limits, the metrics and the form of refusals; one test class runs
over both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import problem, request_id_of
from infra.direct import Asked, Handlers, header_lines
from infra.principal import Principal
from infra.refusal import Refusal

Identify = Callable[[str | None], Principal]


@dataclass(frozen=True, slots=True)
class _Route:
    """What the metrics read of a route (`api/observe.py`)."""

    path: str
    methods: frozenset[str]


class Direct:
    """ASGI. `identify` gives the principal of an Authorization header, or raises Refusal."""

    def __init__(self, app: ASGIApp, handlers: Handlers, identify: Identify) -> None:
        self._app = app
        self._identify = identify
        self._found = {place: (handler, _Route(place[1], frozenset({place[0]}))) for place, handler in handlers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._found.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        handler, scope["route"] = found
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        try:
            asker = self._identify(headers.get("authorization"))
            body = await _body(receive)
            if body is None:
                return
            answer = await handler(asker, Asked(scope["query_string"].decode("latin-1"), headers, body))
        except Refusal as refused:
            await problem(refused, request_id_of(scope))(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": header_lines(answer)})
        await send({"type": "http.response.body", "body": answer.body})


async def _body(receive: Receive) -> bytes | None:
    """The whole body, whose size was limited before; None when the client left."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
