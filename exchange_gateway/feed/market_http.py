"""The venue's market data on request over HTTP (docs/venue-api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from exchange_gateway.venue import NewestTicks, ResentTicks, VenueAway
from infra.contracts import Malformed, decode

T = TypeVar("T")


class _Fault(msgspec.Struct, frozen=True):
    code: str


class _Refused(msgspec.Struct, frozen=True):
    error: _Fault


class HttpMarketData:
    """A MarketData. `timeout_s` bounds each phase of a request; whoever asks bounds the whole."""

    def __init__(self, transport: httpx.AsyncBaseTransport, url: str, api_key: str, timeout_s: float) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {api_key}"},
            transport=transport,
            timeout=timeout_s,
            trust_env=False,
        )

    async def newest(self, symbol: str) -> NewestTicks | None:
        answer = await self._get(f"/market-data/quotes/{quote(symbol, safe='')}", {})
        if answer.status_code == 404 and _code(answer) == "unknown_symbol":
            return None
        return _read(answer, NewestTicks)

    async def resend(self, session: int, symbol: str, first: int, last: int) -> ResentTicks:
        query: dict[str, int | str] = {"session": session, "symbol": symbol, "from": first, "to": last}
        return _read(await self._get("/market-data/ticks", query), ResentTicks)

    async def _get(self, path: str, query: Mapping[str, int | str]) -> httpx.Response:
        try:
            return await self._client.get(path, params=dict(query))
        except httpx.HTTPError as error:
            raise VenueAway(repr(error)) from error


def _read(answer: httpx.Response, kind: type[T]) -> T:
    if answer.status_code != 200:
        raise VenueAway(f"{answer.url.path}: {answer.status_code} {answer.content[:200]!r}")
    try:
        found: T = decode(kind, answer.content)
    except Malformed as error:
        raise VenueAway(repr(error)) from error
    return found


def _code(answer: httpx.Response) -> str:
    try:
        refused: _Refused = decode(_Refused, answer.content)
    except Malformed:
        return ""
    return refused.error.code
