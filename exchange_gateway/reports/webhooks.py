"""POST /webhooks: the venue tells us of a report. Internal port only; the caller proves itself by signature.

2xx is said only when the report is durable in Kafka; anything else makes the venue send it again. What was answered 2xx
and comes again while its signature still holds (the answer was lost, or someone replays it) is answered 2xx and not
published again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import structlog
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.reports.signature import ID, WINDOW_S, BadSignature, verify
from exchange_gateway.venue import VenueReport
from infra.bus import BusError
from infra.clock import NS_PER_S, Clock
from infra.contracts import TRACEPARENT, Malformed, decode, encode

log = structlog.get_logger(__name__)

BODY_BYTES_MAX = 64 * 1024
DURABLE_S_MAX = 4.0
TAKEN_MAX = 200_000


class Taken:
    """What was answered 2xx within the time that a signature can hold: a timestamp may be WINDOW_S ahead and is good
    for WINDOW_S more. A body that differs is another message, even under a known id."""

    def __init__(self, most: int = TAKEN_MAX) -> None:
        self._most = most
        self._until_s: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def __contains__(self, message: tuple[str, bytes]) -> bool:
        return message in self._until_s

    def add(self, message: tuple[str, bytes], now_s: int) -> None:
        self._until_s[message] = now_s + 2 * WINDOW_S
        while self._until_s and (len(self._until_s) > self._most or next(iter(self._until_s.values())) < now_s):
            self._until_s.popitem(last=False)


def routes(publisher: StatusPublisher, keys: Sequence[bytes], clock: Clock) -> APIRouter:
    router = APIRouter(tags=["venue"])
    taken = Taken()

    @router.post("/webhooks", status_code=204, response_class=Response)
    async def take(request: Request) -> Response:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return _refusal(400, "cut_off", "the request ended before its body did")
        if body is None:
            return _refusal(413, "too_large", f"a webhook has at most {BODY_BYTES_MAX} bytes")
        now_s = clock.now_ns() // NS_PER_S
        try:
            verify(request.headers, body, keys, now_s)
        except BadSignature as error:
            return _refusal(401, "bad_signature", str(error))
        message = (request.headers[ID], hashlib.sha256(body).digest())
        if message in taken:
            return Response(status_code=204)
        try:
            report: VenueReport = decode(VenueReport, body)
        except Malformed as error:
            return _refusal(400, "malformed", str(error))
        if not await _durable(publisher, report, request.headers.get(TRACEPARENT, "")):
            return _refusal(503, "bus_unavailable", "the report could not be stored; send it again")
        taken.add(message, now_s)
        return Response(status_code=204)

    return router


async def _body(request: Request) -> bytes | None:
    """The raw bytes, or None as soon as there are too many."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


async def _durable(publisher: StatusPublisher, report: VenueReport, traceparent: str) -> bool:
    try:
        done = publisher.report(report, "webhook", traceparent)
        await asyncio.wait({done}, timeout=DURABLE_S_MAX)
        if not done.done():
            return False
        done.result()
    except BusError as error:
        log.warning("webhook_not_stored", exec_id=report.exec_id, error=str(error))
        return False
    return True


def _refusal(status: int, code: str, text: str) -> Response:
    log.warning("webhook_refused", status=status, code=code, text=text)
    body = encode({"error": {"code": code, "text": text}})
    return Response(body, status, media_type="application/json")
