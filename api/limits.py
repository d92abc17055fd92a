"""What one request may cost before anyone has looked at it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem, request_id_of
from api.reasons import BODY_TOO_LARGE, refusal

# How much of a refused body is read and dropped. A connection closed on unread bytes is reset, and the client would
# see the reset instead of the answer (RFC 9112 §9.6).
DRAIN_BYTES_MAX = 1024 * 1024


class BodyLimit:
    """Refuses a request body above `bytes_max`, declared or chunked (RFC 9110 §15.5.14), before routing.

    The body is read ahead, at most `bytes_max`, and handed on as one message. Starlette's own limiter counts while the
    route reads and has to answer in plain text where a route never does; here every oversized body is the same problem.
    """

    def __init__(self, app: ASGIApp, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = _declared_bytes(scope) if scope["type"] == "http" else 0
        if declared == 0:
            await self._app(scope, receive, send)
            return
        if declared is not None and declared > DRAIN_BYTES_MAX:
            await self._refuse(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._bytes_max:
                await _drain(receive, len(body), more)
                await self._refuse(scope, receive, send)
                return
        await self._app(scope, _replayed(bytes(body), receive), send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        details = {"bytes_max": self._bytes_max}
        text = f"The request body is above {self._bytes_max} bytes."
        answer = problem(refusal(BODY_TOO_LARGE, text, "body", details), request_id_of(scope))
        # What is left of the body is not read, so the connection cannot be used again.
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


async def _drain(receive: Receive, read_bytes: int, more: bool) -> None:
    while more and read_bytes < DRAIN_BYTES_MAX:
        message = await receive()
        read_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)


def _declared_bytes(scope: Scope) -> int | None:
    """Content-Length; 0 where there is no body; None where only reading tells (RFC 9112 §6.3)."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value) if value.isdigit() else None
    return length


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that first gives the body that was read ahead; what follows is the client's disconnect."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
