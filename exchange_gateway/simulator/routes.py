"""The venue's HTTP and WebSocket face, as in docs/venue-api.md."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import AheadOfVenue, DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.messages import Batch, Cancel, NewOrder, Replace, VenueError
from infra.contracts import encode

BODY_BYTES_MAX, BATCH_BYTES_MAX = 64 * 1024, 1024 * 1024
PAGE, PAGE_MAX = 500, 1000
DROP_COPY_FRAMES_PER_TURN = 64
POLICY_VIOLATION, AHEAD = 1008, 4416

S = TypeVar("S", bound=msgspec.Struct)
After = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


def install(app: FastAPI, desk: Desk, drop_copy: DropCopy, feed: Feed, api_key: str) -> None:
    """Give `app` the venue's routes and the venue's form of errors."""
    expected = f"Bearer {api_key}".encode()

    async def authorized(request: Request) -> None:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            raise VenueError(401, "unauthorized", "The bearer key is missing or wrong.")

    app.include_router(_order_entry(desk), dependencies=[Depends(authorized)])
    app.include_router(_questions(desk, feed), dependencies=[Depends(authorized)])
    app.include_router(_streams(drop_copy, feed, expected))
    app.add_exception_handler(VenueError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)


def _order_entry(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["order entry"])

    @router.post("/orders")
    async def submit(request: Request) -> Response:
        terms = _decode(await _body(request, BODY_BYTES_MAX), NewOrder)
        answer = desk.submit([terms])[0]
        if isinstance(answer, VenueError):
            raise answer
        return _json(_reports(answer))

    @router.post("/orders/batch")
    async def submit_batch(request: Request) -> Response:
        batch = _decode(await _body(request, BATCH_BYTES_MAX), Batch)
        answers = desk.submit(_decode_or_error(raw) for raw in batch.orders)
        return _json(b'{"results":[' + b",".join(_result(answer) for answer in answers) + b"]}")

    @router.post("/orders/{orig_cl_ord_id}/cancel")
    async def cancel(orig_cl_ord_id: str, request: Request) -> Response:
        asked = _decode(await _body(request, BODY_BYTES_MAX), Cancel)
        return _json(_reports(desk.cancel(orig_cl_ord_id, asked)))

    @router.post("/orders/{orig_cl_ord_id}/replace")
    async def replace(orig_cl_ord_id: str, request: Request) -> Response:
        asked = _decode(await _body(request, BODY_BYTES_MAX), Replace)
        return _json(_reports(desk.replace(orig_cl_ord_id, asked)))

    return router


def _questions(desk: Desk, feed: Feed) -> APIRouter:
    router = APIRouter(tags=["questions"])
    venue = desk.venue

    @router.get("/orders/{cl_ord_id}")
    async def order(cl_ord_id: str) -> Response:
        found = venue.find(cl_ord_id)
        if found is None:
            raise VenueError(404, "unknown_order", f"No order of this venue has the ClOrdID {cl_ord_id}.")
        reports = b",".join(body for _, body in found.reports)
        return _json(b'{"order":%b,"reports":[%b]}' % (encode(found.state()), reports))

    @router.get("/orders")
    async def mass_status(after: After = 0, limit: Limit = PAGE) -> Response:
        page = venue.page(after, limit)
        upto = page[-1].number if page else after
        more = bool(venue.page(upto, 1))
        orders = encode([order.state() for order in page])
        return _json(b'{"total":%d,"orders":%b,"next":%b}' % (venue.total(), orders, _next(upto, more)))

    @router.get("/executions")
    async def executions(after: After = 0, limit: Limit = PAGE) -> Response:
        page = venue.executions_page(after, limit)
        upto = page[-1][0] if page else after
        more = bool(venue.executions_page(upto, 1))
        reports = b",".join(body for _, body in page)
        return _json(b'{"total":%d,"reports":[%b],"next":%b}' % (venue.executions(), reports, _next(upto, more)))

    @router.get("/market-data/sessions")
    async def sessions() -> Response:
        return _json(encode(feed.sessions()))

    return router


def _streams(drop_copy: DropCopy, feed: Feed, expected: bytes) -> APIRouter:
    router = APIRouter()

    @router.websocket("/drop-copy")
    async def drop_copy_stream(websocket: WebSocket, after: After = 0) -> None:
        if not await _accepted(websocket, expected):
            return

        async def send() -> None:
            n = after
            while True:
                n, frames = await drop_copy.next(n, DROP_COPY_FRAMES_PER_TURN)
                await _send(websocket, frames)

        try:
            drop_copy.check(after)
        except AheadOfVenue as error:
            await websocket.close(AHEAD, str(error))
            return
        await _until_gone(websocket, send)

    @router.websocket("/market-data")
    async def market_data(websocket: WebSocket, session: int | None = None, after: After | None = None) -> None:
        if not await _accepted(websocket, expected):
            return
        reader = feed.join(session, after)

        async def send() -> None:
            while True:
                await _send(websocket, await feed.frames(reader))

        try:
            await _until_gone(websocket, send)
        finally:
            feed.leave(reader)

    return router


# -- sockets -----------------------------------------------------------------------------------------------------------


async def _accepted(websocket: WebSocket, expected: bytes) -> bool:
    """A socket without the key is closed before it opens, which its client sees as a 403."""
    if not hmac.compare_digest(websocket.headers.get("authorization", "").encode(), expected):
        await websocket.close(POLICY_VIOLATION)
        return False
    await websocket.accept()
    return True


async def _send(websocket: WebSocket, frames: Sequence[str]) -> None:
    """Waits while the client's socket is full; lets others in between two batches."""
    for frame in frames:
        await websocket.send_text(frame)
    await asyncio.sleep(0)


async def _until_gone(websocket: WebSocket, send: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Send until the client leaves or the server ends; what a client says is not listened to."""
    tasks = [asyncio.ensure_future(send()), asyncio.ensure_future(_disconnected(websocket))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect):
            raise end


async def _disconnected(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


# -- bodies and answers ------------------------------------------------------------------------------------------------


async def _body(request: Request, bytes_max: int) -> bytes:
    too_large = VenueError(413, "too_large", f"At most {bytes_max} bytes.")
    if int(request.headers.get("content-length") or 0) > bytes_max:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > bytes_max:
            raise too_large
    return b"".join(chunks)


def _decode(body: bytes | msgspec.Raw, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VenueError(400, "malformed", str(error)) from error


def _decode_or_error(raw: msgspec.Raw) -> NewOrder | VenueError:
    try:
        return _decode(raw, NewOrder)
    except VenueError as error:
        return error


def _reports(bodies: Sequence[bytes]) -> bytes:
    return b'{"reports":[%b]}' % b",".join(bodies)


def _result(answer: list[bytes] | VenueError) -> bytes:
    if isinstance(answer, VenueError):
        return b'{"status":%d,"error":%b}' % (answer.status, encode(answer.content()))
    return b'{"status":200,"reports":[%b]}' % b",".join(answer)


def _next(upto: int, more: bool) -> bytes:
    return b"%d" % upto if more else b"null"


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


def _error(status: int, content: dict[str, Any]) -> Response:
    return _json(encode({"error": content}), status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, VenueError)
    return _error(error.status, error.content())


async def _malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _error(400, {"code": "malformed", "text": str(error.errors()[0]["msg"])})


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, {"code": "not_found", "text": str(error.detail)})
