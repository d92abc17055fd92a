"""The one writer of event streams (WHATWG HTML §9.2). Importing sse-starlette patches uvicorn's signal handler, which
our servers do not use; it is imported in this file only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.background import BackgroundTask

from infra.expiry import Expiries

PING_S = 15
SEND_TIMEOUT_S = 30.0
RETRY_MS = 1000
# `retry:` first, so that a client that loses the stream comes back soon but not at once.
HELLO = f"retry: {RETRY_MS}\n\n".encode()
BEAT = b": ping\n\n"
FAREWELL = b"event: closing\ndata: {}\n\n"
EXPIRED = b'event: expired\ndata: {"code":"token_expired"}\n\n'


def frame(data: bytes, event: str = "", id: str = "") -> bytes:  # noqa: A002 - the specification's name
    """One event. `data` is one line (JSON has no raw line breaks)."""
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + data + b"\n\n"


def stream(
    frames: AsyncGenerator[bytes, None],
    stop: asyncio.Event,
    ended: Callable[[], None],
    expiries: Expiries | None = None,
    expires_s: int | None = None,
) -> EventSourceResponse:
    """Send `frames` (bytes pass untouched) until they, the process or the caller's proof (`expires_s`) end; the client
    is told before a shutdown and at the end of its proof.

    A client that does not take a write within SEND_TIMEOUT_S is disconnected. `ended` is called once the response is
    over, even if its client left before a first frame was asked for; frames that fail must clean up by themselves.
    """
    late: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def expired() -> None:
        if not late.done():
            late.set_result(None)

    async def over() -> None:
        if expiries is not None:
            expiries.forget(expires_s, expired)
        ended()

    if expiries is not None:
        expiries.at(expires_s, expired)

    return EventSourceResponse(
        _until(frames, stop, late),
        ping=PING_S,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        send_timeout=SEND_TIMEOUT_S,
        headers={"Cache-Control": "no-store"},
        background=BackgroundTask(over),
    )


async def _until(
    frames: AsyncGenerator[bytes, None], stop: asyncio.Event, late: asyncio.Future[None]
) -> AsyncIterator[bytes]:
    stopping = asyncio.ensure_future(stop.wait())
    following: asyncio.Future[bytes] | None = None
    try:
        yield HELLO
        while True:
            following = asyncio.ensure_future(anext(frames))
            either: set[asyncio.Future[Any]] = {following, stopping, late}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() or late.done():
                yield FAREWELL if stopping.done() else EXPIRED
                return
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        # A client that leaves while nothing is due leaves a frame being waited for: end that, then the generator.
        stopping.cancel()
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        await frames.aclose()
