"""The venue's market data over a WebSocket (docs/venue-api.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from exchange_gateway.stream_ws import frames, ws_url


class WsFeedSource:
    """`depth`: whether the venue shall send books as well."""

    def __init__(self, venue_url: str, api_key: str, depth: bool = False) -> None:
        self._url = ws_url(venue_url, "/market-data")
        self._api_key = api_key
        self._asked = {"depth": 1} if depth else {}

    def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        # Without a position, all that the venue keeps of its present session: whoever starts late misses nothing.
        query = {"after": 0} if session is None or after is None else {"session": session, "after": after}
        return frames(self._url, self._api_key, query | self._asked)
