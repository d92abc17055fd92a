"""The venue's newest quote through the exchange gateway's internal port."""

from __future__ import annotations

from http import HTTPStatus

import httpx
import msgspec

from price_service.live.fetching import IN_FLIGHT_MAX, Published, VenueAway

TIMEOUT_S = 1.0
_LIMITS = httpx.Limits(max_connections=IN_FLIGHT_MAX, max_keepalive_connections=IN_FLIGHT_MAX)


class _Tick(msgspec.Struct):
    d: int
    q: int


class _Quotes(msgspec.Struct):
    ticks: list[_Tick]


class HttpVenueQuotes:
    """`GET {gateway_url}/quotes/{symbol}`. Nothing is contacted before the first question."""

    def __init__(self, gateway_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=gateway_url, timeout=TIMEOUT_S, limits=_LIMITS, trust_env=False, transport=transport
        )

    async def publish(self, symbol: str) -> list[Published]:
        try:
            answer = await self._http.get(f"/quotes/{symbol}")
        except httpx.HTTPError as error:
            raise VenueAway(f"{type(error).__name__}: {error}") from error
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return []
        if answer.status_code != HTTPStatus.OK:
            raise VenueAway(f"the gateway answered {answer.status_code}")
        try:
            found = msgspec.json.decode(answer.content, type=_Quotes)
        except msgspec.DecodeError as error:
            raise VenueAway(f"the gateway's answer cannot be read: {error}") from error
        return [Published(tick.d, tick.q) for tick in found.ticks]

    async def close(self) -> None:
        await self._http.aclose()
