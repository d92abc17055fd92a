"""The venue's HTTP and WebSocket face, as in docs/venue-api.md."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, WebSocket, WebSocketDisconnect

from exchange_gateway.simulator import chaos_routes
from exchange_gateway.simulator.answers import (
    BATCH_BYTES_MAX,
    batch_answer,
    install_errors,
    json_response,
    read,
    reports_answer,
    understood,
    understood_or_error,
)
from exchange_gateway.simulator.broken import Answering
from exchange_gateway.simulator.chaos import Chaos
from exchange_gateway.simulator.depth import Depths
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import AheadOfVenue
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.market_answers import depth_frame, newest_answer, resend_answer
from exchange_gateway.simulator.messages import Batch, Cancel, NewOrder, Replace, VenueError
from exchange_gateway.simulator.trouble import through
from infra.contracts import encode

PAGE, PAGE_MAX = 500, 1000
DROP_COPY_FRAMES_PER_TURN = 64
POLICY_VIOLATION, AHEAD = 1008, 4416

After = Annotated[int, Query(ge=0)]
From = Annotated[int, Query(alias="from")]
To = Annotated[int, Query(alias="to")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


@dataclass(slots=True)
class Sockets:
    """All open WebSockets."""

    _cut: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """End them all, without a goodbye."""
        self._cut.set()
        self._cut = asyncio.Event()

    async def until_cut(self) -> None:
        await self._cut.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What the routes stand on."""

    desk: Desk
    feed: Feed
    answering: Answering
    chaos: Chaos
    chaos_allowed: bool
    sockets: Sockets
    depths: Depths
    depth_flush_s: float


def install(app: FastAPI, floor: Floor, api_key: str) -> None:
    """Give `app` the venue's routes and the venue's form of errors."""
    expected = f"Bearer {api_key}".encode()

    async def authorized(request: Request) -> None:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            raise VenueError(401, "unauthorized", "The bearer key is missing or wrong.")

    locked = [Depends(authorized)]
    app.include_router(_order_entry(floor.desk, floor.answering), dependencies=locked)
    app.include_router(_questions(floor.desk, floor.feed, floor.answering), dependencies=locked)
    app.include_router(chaos_routes.routes(floor.desk, floor.chaos, floor.chaos_allowed), dependencies=locked)
    app.include_router(_streams(floor, expected))
    install_errors(app)


def _order_entry(desk: Desk, answering: Answering) -> APIRouter:
    router = APIRouter(tags=["order entry"])

    @router.post("/orders")
    async def submit(request: Request) -> Response:
        terms = understood(await read(request), NewOrder)

        def work() -> bytes:
            answer = desk.submit([terms])[0]
            if isinstance(answer, VenueError):
                raise answer
            return reports_answer(answer)

        return answering.answer("submit", [terms.symbol], work)

    @router.post("/orders/batch")
    async def submit_batch(request: Request) -> Response:
        batch = understood(await read(request, BATCH_BYTES_MAX), Batch)
        orders = [understood_or_error(raw) for raw in batch.orders]
        symbols = [order.symbol for order in orders if isinstance(order, NewOrder)]
        return answering.answer("batch", symbols, lambda: batch_answer(desk.submit(orders)))

    @router.post("/orders/{orig_cl_ord_id}/cancel")
    async def cancel(orig_cl_ord_id: str, request: Request) -> Response:
        asked = understood(await read(request), Cancel)
        symbols = desk.venue.symbols_of(orig_cl_ord_id)
        return answering.answer("cancel", symbols, lambda: reports_answer(desk.cancel(orig_cl_ord_id, asked)))

    @router.post("/orders/{orig_cl_ord_id}/replace")
    async def replace(orig_cl_ord_id: str, request: Request) -> Response:
        asked = understood(await read(request), Replace)
        symbols = desk.venue.symbols_of(orig_cl_ord_id)
        return answering.answer("replace", symbols, lambda: reports_answer(desk.replace(orig_cl_ord_id, asked)))

    return router


def _questions(desk: Desk, feed: Feed, answering: Answering) -> APIRouter:
    router = APIRouter(tags=["questions"])

    @router.get("/orders/{cl_ord_id}")
    async def order(cl_ord_id: str) -> Response:
        return answering.answer("query", desk.venue.symbols_of(cl_ord_id), lambda: desk.venue.told_of(cl_ord_id))

    @router.get("/orders")
    async def mass_status(after: After = 0, limit: Limit = PAGE) -> Response:
        return json_response(desk.venue.orders_answer(after, limit))

    @router.get("/executions")
    async def executions(after: After = 0, limit: Limit = PAGE) -> Response:
        return json_response(desk.venue.executions_answer(after, limit))

    @router.get("/market-data/sessions")
    async def sessions() -> Response:
        return json_response(encode(feed.sessions()))

    @router.get("/market-data/quotes/{symbol:path}")
    async def newest(symbol: str) -> Response:
        return json_response(newest_answer(feed, desk.venue.instruments, symbol))

    @router.get("/market-data/ticks")
    async def ticks(session: int, symbol: str, first: From, last: To) -> Response:
        return json_response(resend_answer(feed, session, symbol, first, last))

    return router


def _streams(floor: Floor, expected: bytes) -> APIRouter:
    router = APIRouter()
    feed, sockets = floor.feed, floor.sockets

    @router.websocket("/drop-copy")
    async def drop_copy_stream(websocket: WebSocket, after: After = 0) -> None:
        if not await _accepted(websocket, expected):
            return
        drop_copy = floor.desk.drop_copy

        async def send() -> None:
            n, is_first, holds = after, True, True
            while holds:
                n, frames = await drop_copy.next(n, DROP_COPY_FRAMES_PER_TURN)
                sent, holds = through(floor.chaos, frames, is_first)
                await _send(websocket, sent)
                is_first = False

        try:
            drop_copy.check(after)
        except AheadOfVenue as error:
            await websocket.close(AHEAD, str(error))
            return
        await _until_gone(websocket, sockets, send)

    @router.websocket("/market-data")
    async def market_data(
        websocket: WebSocket, session: int | None = None, after: After | None = None, depth: bool = False
    ) -> None:
        if not await _accepted(websocket, expected):
            return
        reader = feed.join(session, after)

        async def send() -> None:
            while True:
                await _send(websocket, await feed.frames(reader))

        async def send_books() -> None:
            books = floor.depths.join()
            try:
                while True:
                    await _send(websocket, [depth_frame(few) for few in books.take()])
                    await asyncio.sleep(floor.depth_flush_s)
            finally:
                floor.depths.leave(books)

        try:
            await _until_gone(websocket, sockets, send, *([send_books] if depth else []))
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


async def _until_gone(websocket: WebSocket, sockets: Sockets, *sends: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Send until the client leaves, the server ends or the socket is cut; what a client says is not listened to."""
    ways = (*(send() for send in sends), _disconnected(websocket), sockets.until_cut())
    tasks = [asyncio.ensure_future(way) for way in ways]
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
