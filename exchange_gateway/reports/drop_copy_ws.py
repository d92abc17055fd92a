"""The venue's drop copy over a WebSocket (docs/venue-api.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from exchange_gateway.stream_ws import frames, ws_url


class WsDropCopySource:
    def __init__(self, venue_url: str, api_key: str) -> None:
        self._url = ws_url(venue_url, "/drop-copy")
        self._api_key = api_key

    def frames(self, after: int) -> AsyncIterator[bytes]:
        return frames(self._url, self._api_key, {"after": after})
