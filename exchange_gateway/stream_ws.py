"""One WebSocket connection of the venue as an iterator of frames (RFC 6455)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from exchange_gateway.stream import OPEN, NeverReached, SourceLost

OPEN_S_MAX = 3.0
PING_EVERY_S = 5.0
# A pong waits behind the frames that we have not read yet, so a backlog must not look like a dead venue.
PONG_S_MAX = 20.0
CLOSE_S_MAX = 0.5
# An instruments frame lists every symbol of the venue at once.
FRAME_BYTES_MAX = 16 * 1024 * 1024
# Frames read ahead of us: small, so that back-pressure reaches the venue through TCP.
FRAMES_AHEAD_MAX = 16
# The venue's close code for a position that it never reached (docs/venue-api.md).
NEVER_REACHED = 4416


async def frames(url: str, api_key: str, query: Mapping[str, int]) -> AsyncGenerator[bytes, None]:
    """OPEN, then text frames as their UTF-8 bytes, until the connection ends, which raises SourceLost or
    NeverReached."""
    address = f"{url}?{urlencode(query)}" if query else url
    try:
        async with connect(
            address,
            additional_headers={"authorization": f"Bearer {api_key}"},
            compression=None,
            proxy=None,
            open_timeout=OPEN_S_MAX,
            ping_interval=PING_EVERY_S,
            ping_timeout=PONG_S_MAX,
            close_timeout=CLOSE_S_MAX,
            max_size=FRAME_BYTES_MAX,
            max_queue=FRAMES_AHEAD_MAX,
        ) as socket:
            yield OPEN
            while True:
                yield await socket.recv(decode=False)
    except ConnectionClosed as error:
        kind = NeverReached if error.rcvd is not None and error.rcvd.code == NEVER_REACHED else SourceLost
        raise kind(repr(error)) from error
    except (WebSocketException, OSError, EOFError) as error:  # TimeoutError is an OSError
        raise SourceLost(repr(error)) from error


def ws_url(http_url: str, path: str) -> str:
    """The WebSocket address beside the venue's HTTP address."""
    return http_url.replace("http", "ws", 1).rstrip("/") + path
