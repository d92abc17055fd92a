"""The one writer of event streams (WHATWG HTML §9.2). Importing sse-starlette patches uvicorn's signal handler, which
our servers do not use; it is imported in this file only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

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


def stream(frames: AsyncIterator[bytes], stop: asyncio.Event) -> EventSourceResponse:
    """Send `frames` (bytes pass untouched) until they or the process end; the client is told before a shutdown.

    A client that does not take a write within SEND_TIMEOUT_S is disconnected.
    """
    return EventSourceResponse(
        _until(frames, stop),
        ping=PING_S,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        send_timeout=SEND_TIMEOUT_S,
        headers={"Cache-Control": "no-store"},
    )


async def _until(frames: AsyncIterator[bytes], stop: asyncio.Event) -> AsyncIterator[bytes]:
    yield HELLO
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(frames))
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                following.cancel()
                yield FAREWELL
                return
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        stopping.cancel()
