"""The price stream of one client as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection

from fastapi import Response

from infra.sse import stream
from infra.telemetry import FRAMES, STREAMS
from price_service.live.followers import Follower, Followers

KIND = "prices"
END_OF_FRAME = b"\n\n"


def price_stream(followers: Followers, symbols: Collection[str], stop: asyncio.Event) -> Response:
    follower = followers.join(symbols)
    STREAMS.labels(KIND).inc()

    def leave() -> None:
        if followers.leave(follower):
            STREAMS.labels(KIND).dec()

    return stream(_chunks(follower, leave), stop, leave)


async def _chunks(follower: Follower, leave: Callable[[], None]) -> AsyncGenerator[bytes, None]:
    frames = FRAMES.labels(KIND)
    try:
        while not follower.left:
            chunk = await follower.chunk()
            frames.inc(chunk.count(END_OF_FRAME))
            yield chunk
    finally:
        leave()
