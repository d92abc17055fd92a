"""Missing ticks, asked for at the gateway's internal port."""

from __future__ import annotations

import asyncio

import httpx
import msgspec

from infra.contracts import Malformed, decode, encode
from price_service.domain.holes import Runs
from price_service.gaps.ports import Ask, GatewayAway, Refused

ANSWER_S_MAX = 4.0  # within the time that a process has to stop


class _Answer(msgspec.Struct, frozen=True):
    missing: list[tuple[int, int]]


class HttpResender:
    """A Resender. `transport` is for tests; closed by who made it."""

    def __init__(self, gateway_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(
            base_url=gateway_url, transport=transport, timeout=ANSWER_S_MAX, trust_env=False
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def resend(self, ask: Ask) -> Runs:
        body = encode({"symbol": ask.symbol, "session": ask.session, "from": ask.first, "to": ask.last})
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._client.post("/feed/resend", content=body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise GatewayAway(repr(error)) from error
        said = f"{answer.status_code} {answer.text[:200]}"
        if answer.status_code == 422:
            raise Refused(said)
        if answer.status_code != 200:
            raise GatewayAway(said)
        try:
            found: _Answer = decode(_Answer, answer.content)
        except Malformed as error:
            raise GatewayAway(repr(error)) from error
        return sorted(found.missing)
