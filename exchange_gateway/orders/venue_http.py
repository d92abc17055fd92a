"""The exchange's order entry and its books over HTTP (docs/venue-api.md).

On httpx's transport, below its client: redirects, cookies and proxies are of no use here and cost more CPU than the
request itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from exchange_gateway.orders.outcome import Answer, Reach, decide, decide_batch, retry_after
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.venue import ExecutionsPage, OrdersPage, VenueAway
from infra.clock import NS_PER_S, Clock
from infra.contracts import Malformed, decode, encode

P = TypeVar("P")

# The transport's limits are per phase; a body that drips slowly would never end without this one.
ANSWER_S_MAX = 5.0

# Servers close what is idle for 5 s (uvicorn's default); a request on a connection that is just being closed has an
# unknown end.
KEEP_ALIVE_S = 3.0

# Raised before a byte of the request has left. Everything else may have been sent.
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


def reach_of(error: BaseException) -> Reach:
    """How far a request came that ended with `error`."""
    return Reach.NOT_SENT if isinstance(error, _NOT_SENT) else Reach.MAYBE_SENT


def venue_transport(sends_max: int) -> httpx.AsyncHTTPTransport:
    """Connections for `sends_max` requests at one time, and one more for the books."""
    connections = sends_max + 1
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE_S
    )
    return httpx.AsyncHTTPTransport(limits=limits, trust_env=False)


class HttpVenue:
    """A Venue and its VenueBooks. `timeout_s` bounds each phase of a request: connect, write, read, waiting for a free
    connection."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, url: str, api_key: str, clock: Clock, timeout_s: float = 2.0
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._url = url.rstrip("/")
        # As raw pairs, written once: httpx would else normalise them for every request.
        host = httpx.URL(self._url).netloc
        self._headers = [(b"host", host), (b"authorization", f"Bearer {api_key}".encode())]
        self._extensions = {"timeout": httpx.Timeout(timeout_s).as_dict()}

    async def submit(self, order: NewOrder) -> Answer:
        return await self._answer("POST", "/orders", order)

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        try:
            answer = await self._request("POST", "/orders/batch", {"orders": orders})
        except Exception as error:  # noqa: BLE001 - whatever broke, the orders may be there: that is the answer
            return [decide(reach_of(error), text=repr(error))] * len(orders)
        answers = decide_batch(len(orders), answer.status_code, answer.content, self._pause_s(answer))
        return [await self.submit(order) for order in orders] if answers is None else answers

    async def cancel(self, request: CancelRequest) -> Answer:
        body = {"cl_ord_id": request.cl_ord_id}
        return await self._answer("POST", f"{_path(request.orig_cl_ord_id)}/cancel", body)

    async def replace(self, request: ReplaceRequest) -> Answer:
        body = {
            "cl_ord_id": request.cl_ord_id,
            "quantity": request.quantity,
            "limit_micros": request.limit_micros,
        }
        return await self._answer("POST", f"{_path(request.orig_cl_ord_id)}/replace", body)

    async def query(self, cl_ord_id: str) -> Answer:
        return await self._answer("GET", _path(cl_ord_id))

    async def orders(self, after: int, limit: int) -> OrdersPage:
        return await self._page(OrdersPage, f"/orders?after={after}&limit={limit}")

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        return await self._page(ExecutionsPage, f"/executions?after={after}&limit={limit}")

    async def _answer(self, method: str, path: str, body: Any = None) -> Answer:
        try:
            answer = await self._request(method, path, body)
        except Exception as error:  # noqa: BLE001 - whatever broke, the order may be there: that is the answer
            return decide(reach_of(error), text=repr(error))
        return decide(Reach.ANSWERED, answer.status_code, answer.content, retry_after_s=self._pause_s(answer))

    async def _page(self, kind: type[P], path: str) -> P:
        try:
            answer = await self._request("GET", path)
            if answer.status_code != 200:
                raise VenueAway(f"{path}: {answer.status_code} {answer.content[:200]!r}")
            page: P = decode(kind, answer.content)
        except (httpx.HTTPError, TimeoutError, Malformed) as error:
            raise VenueAway(repr(error)) from error
        return page

    async def _request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A whole answer, read to its end."""
        headers = self._headers
        content = None if body is None else encode(body)
        if content is not None:
            length = str(len(content)).encode()
            headers = [*headers, (b"content-type", b"application/json"), (b"content-length", length)]
        request = httpx.Request(method, self._url + path, headers=headers, content=content, extensions=self._extensions)
        async with asyncio.timeout(ANSWER_S_MAX):
            answer = await self._transport.handle_async_request(request)
            try:
                await answer.aread()
            finally:
                await answer.aclose()
        return answer

    def _pause_s(self, answer: httpx.Response) -> float | None:
        value = answer.headers.get("retry-after")
        return retry_after(value, self._clock.now_ns() / NS_PER_S) if value else None


def _path(cl_ord_id: str) -> str:
    return f"/orders/{quote(cl_ord_id, safe='')}"
