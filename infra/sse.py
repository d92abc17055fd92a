"""The one writer of event streams (WHATWG HTML §9.2). Importing sse-starlette patches uvicorn's signal handler, which
our servers do not use; it is imported in this file only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.background import BackgroundTask

PING_S = 15
SEND_TIMEOUT_S = 30.0
RETRY_MS = 1000
# `retry:` first, so that a client that loses the stream comes back soon but not at once.
HELLO = f"retry: {RETRY_MS}\n\n".encode()
FAREWELL = b"event: closing\ndata: {}\n\n"


def frame(data: bytes, event: str = "", id: str = "") -> bytes:  # noqa: A002 - the specification's name
    """One event. `data` is one line (JSON has no raw line breaks)."""
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + data + b"\n\n"


def stream(frames: AsyncGenerator[bytes, None], stop: asyncio.Event, ended: Callable[[], None]) -> EventSourceResponse:
    """Send `frames` (bytes pass untouched) until they or the process end; the client is told before a shutdown.

    A client that does not take a write within SEND_TIMEOUT_S is disconnected. `ended` is called once the response is
    over, even if its client left before a first frame was asked for; frames that fail must clean up by themselves.
    """

    async def over() -> None:
        ended()

    return EventSourceResponse(
        _until(frames, stop),
        ping=PING_S,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        send_timeout=SEND_TIMEOUT_S,
        headers={"Cache-Control": "no-store"},
        background=BackgroundTask(over),
    )


async def _until(frames: AsyncGenerator[bytes, None], stop: asyncio.Event) -> AsyncIterator[bytes]:
    stopping = asyncio.ensure_future(stop.wait())
    following: asyncio.Future[bytes] | None = None
    try:
        yield HELLO
        while True:
            following = asyncio.ensure_future(anext(frames))
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                yield FAREWELL
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
