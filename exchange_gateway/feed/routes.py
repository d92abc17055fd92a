"""Market data on request, on the gateway's internal port: for our own services, so without a key.

Errors are `{"error":{"code","text"}}`: 404 `unknown_symbol`, 422 for what cannot be asked, 503 for what cannot be
answered now.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from exchange_gateway.feed.on_request import RESEND_MAX, OnRequest, Resend, Unanswered
from infra.contracts import Malformed, decode, encode

BODY_BYTES_MAX = 4096
RETRY_AFTER_S = "1"
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9.\-]{0,15}")
_SESSION_MAX = 1 << 60


def routes(market: OnRequest) -> APIRouter:
    router = APIRouter(tags=["market data"])

    @router.get("/quotes/{symbol}")
    async def quote(symbol: str) -> Response:
        """The venue's newest trade and quote of a symbol, which are then on `prices` as well."""
        if not _SYMBOL.fullmatch(symbol):
            return _error(422, "invalid_symbol", "A letter, then letters, digits, dots or dashes, at most 16.")
        try:
            found = await market.newest(symbol)
        except Unanswered as error:
            return _unanswered(error)
        if found is None:
            return _error(404, "unknown_symbol", "The venue does not list the symbol.")
        return _json(200, found)

    @router.post("/feed/resend")
    async def resend(request: Request) -> Response:
        """Have the venue send ticks again; they come on `prices`."""
        try:
            asked: Resend = decode(Resend, await _body(request))
        except Malformed as error:
            return _error(422, "malformed", str(error))
        if fault := _fault(asked):
            return _error(422, *fault)
        try:
            sent = await market.resend(asked)
        except Unanswered as error:
            return _unanswered(error)
        return _json(200, {"published": sent.published, "missing": sent.missing})

    return router


async def _body(request: Request) -> bytes:
    """Raises Malformed when it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Malformed(f"more than {BODY_BYTES_MAX} bytes")
    return body


def _fault(asked: Resend) -> tuple[str, str] | None:
    if not _SYMBOL.fullmatch(asked.symbol):
        return "invalid_symbol", "A letter, then letters, digits, dots or dashes, at most 16."
    if not (0 <= asked.session <= _SESSION_MAX and 1 <= asked.first <= asked.last <= _SESSION_MAX):
        return "malformed", "session is not negative, from is at least 1 and at most to."
    if asked.last - asked.first >= RESEND_MAX:
        return "too_many_ticks", f"At most {RESEND_MAX} sequence numbers in one request."
    return None


def _json(status: int, content: Any) -> Response:
    return Response(encode(content), status, media_type="application/json")


def _error(status: int, code: str, text: str) -> Response:
    return _json(status, {"error": {"code": code, "text": text}})


def _unanswered(error: Unanswered) -> Response:
    response = _error(503, error.code, str(error))
    response.headers["retry-after"] = RETRY_AFTER_S
    return response
