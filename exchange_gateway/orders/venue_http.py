"""The exchange's order entry over HTTP (docs/venue-api.md)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import httpx

from exchange_gateway.orders.outcome import Answer, Reach, decide
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.venue import ExecutionsPage, VenueAway
from infra.contracts import Malformed, decode, encode

# The client's own limits are per phase; a body that drips slowly would never end without this one.
ANSWER_S_MAX = 5.0

# Raised before a byte of the request has left. Everything else may have been sent.
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
_JSON = {"content-type": "application/json"}


def reach_of(error: BaseException) -> Reach:
    """How far a request came that ended with `error`."""
    return Reach.NOT_SENT if isinstance(error, _NOT_SENT) else Reach.MAYBE_SENT


class HttpVenue:
    """`client` knows the venue's address and our key."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def submit(self, order: NewOrder) -> Answer:
        return await self._ask("POST", "/orders", order)

    async def cancel(self, request: CancelRequest) -> Answer:
        body = {"cl_ord_id": request.cl_ord_id}
        return await self._ask("POST", f"{_path(request.orig_cl_ord_id)}/cancel", body)

    async def replace(self, request: ReplaceRequest) -> Answer:
        body = {
            "cl_ord_id": request.cl_ord_id,
            "quantity": request.quantity,
            "limit_micros": request.limit_micros,
        }
        return await self._ask("POST", f"{_path(request.orig_cl_ord_id)}/replace", body)

    async def query(self, cl_ord_id: str) -> Answer:
        return await self._ask("GET", _path(cl_ord_id))

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        try:
            answer = await self._client.get("/executions", params={"after": after, "limit": limit})
            answer.raise_for_status()
            page: ExecutionsPage = decode(ExecutionsPage, answer.content)
        except (httpx.HTTPError, Malformed) as error:
            raise VenueAway(repr(error)) from error
        return page

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        content = None if body is None else encode(body)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._client.request(method, path, content=content, headers=_JSON)
        except Exception as error:  # noqa: BLE001 - whatever broke, the order may be there: that is the answer
            return decide(reach_of(error), text=repr(error))
        return decide(Reach.ANSWERED, answer.status_code, answer.content)


def _path(cl_ord_id: str) -> str:
    return f"/orders/{quote(cl_ord_id, safe='')}"
