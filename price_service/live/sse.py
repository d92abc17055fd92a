"""One client's price stream as server-sent events: on its own connection where the server lets us have it, else through
sse-starlette. The events are the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from infra.direct import can_take_over, take_over
from infra.principal import Principal
from infra.sse import HELLO, frame, stream
from price_service.live.followers import Follower, Sink
from price_service.live.framings import CHUNKED_EVENTS, EVENTS, EventStream
from price_service.live.lanes import Joinable
from price_service.live.pulled import Pulled

HEADERS = {"Cache-Control": "no-store", "Connection": "keep-alive", "X-Accel-Buffering": "no"}


class Stream:
    """An open stream. It follows its symbols from `begin` until its client goes or `end`; `gone` is called once."""

    __slots__ = ("_follower", "_followers", "_framing", "_gone", "_since_ms", "_symbols", "id", "principal")

    def __init__(
        self,
        id: str,  # noqa: A002 - its name on the wire
        principal: Principal,
        symbols: Collection[str],
        followers: Joinable,
        since_ms: int | None,
        gone: Callable[[Stream], None],
    ) -> None:
        self.id = id
        self.principal = principal
        self._symbols: Collection[str] = symbols
        self._followers = followers
        self._since_ms = since_ms
        self._gone: Callable[[Stream], None] | None = gone
        self._framing: EventStream = EVENTS
        self._follower: Follower | None = None

    @property
    def symbols(self) -> Collection[str]:
        return self._symbols if self._follower is None else self._follower.keys

    @property
    def is_direct(self) -> bool:
        return self._framing is CHUNKED_EVENTS

    def begin(self, sink: Sink, framing: EventStream) -> None:
        """Say which stream this is, and follow."""
        self._framing = framing
        if self._gone is None:
            sink.abort()
            return
        # sse-starlette's way begins with the same (`infra/sse.py`).
        hello = HELLO if self.is_direct else b""
        sink.write(framing.event(hello + self._named()))
        self._follower = self._followers.join(self._symbols, sink, framing, self._since_ms)
        self._symbols = ()

    def change(self, symbols: Collection[str]) -> None:
        """Follow these from now on, and say so; the state of new ones comes with the next flush."""
        if self._follower is None:
            self._symbols = symbols
        else:
            self._followers.change(self._follower, symbols)
            self._follower.sink.write(self._framing.event(self._named()))

    def end(self, event: bytes) -> None:
        """Say a last thing and close."""
        follower = self._follower
        self.left()
        if follower is not None:
            follower.sink.write(self._framing.event(event) + self._framing.last)
            follower.sink.close()

    def unsent(self) -> int:
        """Bytes that its client has not taken yet."""
        return 0 if self._follower is None else self._follower.sink.unsent()

    def abort(self) -> None:
        if self._follower is not None:
            self._follower.sink.abort()

    def _named(self) -> bytes:
        return frame(msgspec.json.encode({"id": self.id, "symbols": list(self.symbols)}), event="stream")

    def left(self) -> None:
        """Its client is gone, or nothing more is for it."""
        gone, self._gone = self._gone, None
        if self._follower is not None:
            self._followers.leave(self._follower)
        if gone is not None:
            gone(self)


class StreamResponse(Response):
    """The answer that begins a stream, one way or the other."""

    media_type = "text/event-stream"

    def __init__(self, opened: Stream, stop: asyncio.Event) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._opened = opened
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened = self._opened
        if not can_take_over(scope):
            sink = Pulled()
            opened.begin(sink, EVENTS)
            await stream(_pulled(sink, opened), self._stop, opened.left)(scope, receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        except BaseException:
            opened.left()
            raise
        line = take_over(scope, opened.left)
        assert line is not None
        opened.begin(line, CHUNKED_EVENTS)


async def _pulled(sink: Pulled, opened: Stream) -> AsyncGenerator[bytes, None]:
    try:
        while data := await sink.pull():
            yield data
    finally:
        opened.left()
