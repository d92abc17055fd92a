"""GET /ws: quotes and order books over one WebSocket, for clients that prefer it to server-sent events.

The same state from the same followers as the streams of `stream_routes` and `book_routes`, conflated in the same way.
A refusal is an `error` message and the connection stays, where that is possible; else it is closed with 4000 plus the
HTTP status of the same refusal: 4401 without a good token or ticket and when the token expires, 4429 for too many
streams or messages, 4503. 4408: the client does not read. 1009: a message is too long. 1001, 1012: this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect

from infra.clock import Clock
from infra.principal import Principal, on_streams
from infra.refusal import Refusal
from infra.sse import EXPIRED
from infra.telemetry import STREAMS
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of
from price_service.live.followers import Follower
from price_service.live.lanes import Joinable
from price_service.live.open_streams import OpenStreams
from price_service.live.socket_messages import (
    CHANNELS,
    FRAMINGS,
    PONG,
    Asked,
    Channel,
    Ping,
    Subscribe,
    asked,
    refused,
    subscribed,
)
from price_service.live.traded import Traded

KIND = "sockets"
GOING_AWAY, TOKEN_EXPIRED, NOT_READING, TOO_MANY = 1001, 4401, 4408, 4429
TOLD_EXPIRED = b'{"type":"error","code":"token_expired"}'
# Answers that a client may leave unread, beside what its subscriptions bring; then it is not reading at all.
UNREAD_BYTES_MAX = 1024 * 1024
# So many times its limit of messages per second, and a client is not answered any more but sent away.
FLOOD_FACTOR = 10
# How long a client that is given up has for the closing handshake.
CLOSE_S = 1.0


class Sockets:
    """What all connections share."""

    def __init__(
        self,
        followers: Mapping[Channel, Joinable],
        traded: Traded,
        registry: OpenStreams,
        clock: Clock,
        symbols_max: int,
        messages_max: int,
    ) -> None:
        self.followers = followers
        self.traded = traded
        self.registry = registry
        self.clock = clock
        self.symbols_max = symbols_max
        self.messages_max = messages_max

    async def serve(self, websocket: WebSocket, asker: Principal) -> None:
        """Until either side ends it. Raises Refusal when the connection may not be."""
        socket = Socket(self, asker)
        self.registry.opened(socket)
        try:
            await websocket.accept()
            with STREAMS.labels(KIND).track_inprogress():
                await _both(socket, websocket)
        finally:
            socket.leave()
            self.registry.closed(socket)


class Socket:
    """One connection: what it follows, and what waits to be sent on it. A sink of the followers."""

    def __init__(self, sockets: Sockets, principal: Principal) -> None:
        self.id = sockets.registry.new_id()
        self.principal = principal
        self._sockets = sockets
        self._following: dict[Channel, Follower] = {}
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._news = asyncio.Event()
        self._close_code: int | None = None
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._window_s = 0.0
        self._messages = 0

    # -- a sink --------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._close_code is None:
            self._waiting.append(data)
            self._bytes += len(data)
            self._news.set()

    def unsent(self) -> int:
        return self._bytes

    def close(self) -> None:
        self.close_with(GOING_AWAY)

    def abort(self) -> None:
        if not self.given_up.done():
            self.given_up.set_result(None)

    def close_with(self, code: int) -> None:
        if self._close_code is None:
            self._close_code = code
            self._news.set()

    # -- an open stream ------------------------------------------------------------------------------------------------

    @property
    def symbols(self) -> Collection[str]:
        return ()

    def change(self, symbols: Collection[str]) -> None:
        """Its client changes it by messages."""
        raise refusal(reasons.STREAM_UNKNOWN)

    def end(self, event: bytes) -> None:
        if event == EXPIRED:
            self.write(TOLD_EXPIRED)
            self.close_with(TOKEN_EXPIRED)
        else:
            self.close()

    # -- the connection ------------------------------------------------------------------------------------------------

    async def send(self, websocket: WebSocket) -> None:
        """What waits, one message each, until the connection is closed from here."""
        while True:
            await self._news.wait()
            self._news.clear()
            waiting, self._waiting = self._waiting, []
            for data in waiting:
                await websocket.send_text(data.decode())
                self._bytes -= len(data)
            if self._close_code is not None and not self._waiting:
                await websocket.close(self._close_code)
                return

    async def read(self, websocket: WebSocket) -> None:
        """The client's messages, until it leaves."""
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            if not self._is_heard():
                continue
            if self._bytes > UNREAD_BYTES_MAX:
                self.abort()
                return
            try:
                self._do(asked(message.get("text") or message.get("bytes") or b""))
            except Refusal as error:
                self.write(refused(error))

    def leave(self) -> None:
        for channel, follower in self._following.items():
            self._sockets.followers[channel].leave(follower)
        self._following.clear()

    def _is_heard(self) -> bool:
        """False for messages above the limit: the first of a second is answered, the others are not looked at."""
        now_s, messages_max = self._sockets.clock.monotonic_s(), self._sockets.messages_max
        if now_s - self._window_s >= 1:
            self._window_s, self._messages = now_s, 0
        self._messages += 1
        if self._messages == messages_max + 1:
            self.write(refused(refusal(reasons.MESSAGES_TOO_MANY, max=messages_max)))
        elif self._messages > messages_max * FLOOD_FACTOR:
            self.close_with(TOO_MANY)
        return self._messages <= messages_max

    def _do(self, wanted: Asked) -> None:
        if isinstance(wanted, Ping):
            self.write(PONG)
            return
        held = self._followed(wanted.channel)
        if wanted.symbols is not None and len(wanted.symbols) > self._sockets.symbols_max:
            raise refusal(reasons.SYMBOLS_TOO_MANY, "symbols", max=self._sockets.symbols_max)
        named = [symbol_of(name, "symbols") for name in wanted.symbols or ()]
        if isinstance(wanted, Subscribe):
            if not named:
                raise refusal(reasons.SYMBOLS_MISSING, "symbols")
            symbols = set(held).union(self._sockets.traded.known(named, "symbols"))
        else:
            symbols = set() if wanted.symbols is None else set(held).difference(named)
        self._follow(wanted.channel, symbols)

    def _followed(self, channel: Channel) -> Collection[str]:
        follower = self._following.get(channel)
        return () if follower is None else follower.keys

    def _follow(self, channel: Channel, symbols: set[str]) -> None:
        others = sum(len(self._followed(other)) for other in CHANNELS if other != channel)
        if others + len(symbols) > self._sockets.symbols_max:
            raise refusal(reasons.SYMBOLS_TOO_MANY, "symbols", max=self._sockets.symbols_max)
        # The answer first: what follows from it comes with the next flush.
        self.write(subscribed(channel, symbols))
        followers, follower = self._sockets.followers[channel], self._following.get(channel)
        if follower is None:
            if symbols:
                self._following[channel] = followers.join(symbols, self, FRAMINGS[channel])
        elif symbols:
            followers.change(follower, symbols)
        else:
            followers.leave(self._following.pop(channel))


async def _both(socket: Socket, websocket: WebSocket) -> None:
    """Until one of the two has ended, or the client is given up: then the other has nothing more to do."""
    tasks = [asyncio.ensure_future(work) for work in (socket.read(websocket), socket.send(websocket))]
    try:
        await asyncio.wait([*tasks, socket.given_up], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    if socket.given_up.done():
        with contextlib.suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(CLOSE_S):
                await websocket.close(NOT_READING)
    for error in ended:
        # Sending to a client that has just left is no error.
        if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
            raise error


def routes(sockets: Sockets, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["prices"])

    @router.websocket("/ws")
    async def ws(websocket: WebSocket, asker: Principal = Depends(on_streams(principal))) -> None:
        await sockets.serve(websocket, asker)

    return router
