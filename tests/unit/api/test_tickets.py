"""A ticket opens one stream, soon, and stands for the one who bought it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request

from api.app import build
from api.auth.tickets import TTL_S
from api.errors import STATUS
from infra.cache import CacheDown
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, ManualClock
from infra.principal import Principal, on_streams
from tests.unit.api.doors import PriceDoors, client, settings, token


class Streaming(PriceDoors):
    """One route of streams beside the ordinary one; both say who asks."""

    def routers(self, principal: Any) -> list[APIRouter]:
        routes = APIRouter()

        @routes.get("/followed")
        async def followed(request: Request, asker: Principal = Depends(on_streams(principal))) -> dict[str, Any]:
            return {"subject": asker.subject, "until": asker.expires_s, "query": request.scope["query_string"].decode()}

        return [*super().routers(principal), routes]


class Away(MemoryCache):
    async def put(self, key: str, value: bytes, ttl_s: int, only_new: bool = False) -> bool:
        raise CacheDown("away")

    async def take(self, key: str) -> bytes | None:
        raise CacheDown("away")


def app(clock: ManualClock, kept: MemoryCache | None = None) -> FastAPI:
    return build(settings(), {"prices": Streaming(asyncio.Event())}, ("prices",), clock, kept)


async def bought(http: httpx.AsyncClient) -> str:
    answer = await http.post("/streams/tickets")
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    return str(answer.json()["ticket"])


async def test_it_stands_for_who_bought_it_and_ends_with_the_token() -> None:
    clock = ManualClock()
    built = app(clock)
    async with client(built, token(account=7, ttl_s=60)) as buyer, client(built) as browser:
        answer = (await buyer.post("/streams/tickets")).json()
        assert answer["expiresAt"] == "2023-11-14T22:13:50Z"  # 30 s after the manual clock's 1,700,000,000
        opened = await browser.get(f"/followed?a=1&ticket={answer['ticket']}&b=2")
        until_s = clock.now_ns() // NS_PER_S + 60
        assert opened.json() == {"subject": "test-investor", "until": until_s, "query": "a=1&b=2"}


async def test_used_late_and_made_up_look_alike() -> None:
    clock = ManualClock()
    built = app(clock)
    async with client(built, token()) as buyer, client(built) as browser:
        used, late = await bought(buyer), await bought(buyer)
        assert (await browser.get(f"/followed?ticket={used}")).status_code == 200
        clock.advance(TTL_S)
        found = []
        for ticket in (used, late, "made-up", "x" * 5_000, "%00"):
            answer = await browser.get(f"/followed?ticket={ticket}")
            found.append((answer.status_code, {**answer.json(), "requestId": ""}))
        assert [status for status, _ in found] == [401] * 5
        assert all(body == found[0][1] for _, body in found)
        assert found[0][1]["code"] == "ticket_invalid"


async def test_of_many_who_use_it_at_once_one_gets_in() -> None:
    built = app(ManualClock())
    async with client(built, token()) as buyer, client(built) as browser:
        ticket = await bought(buyer)
        answers = await asyncio.gather(*(browser.get(f"/followed?ticket={ticket}") for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200, *[401] * 19]


async def test_it_opens_streams_only_and_buys_nothing() -> None:
    built = app(ManualClock())
    async with client(built, token()) as buyer, client(built) as browser:
        ticket = await bought(buyer)
        for answer in (
            await browser.get(f"/stockPrices?symbol=AAPL&ticket={ticket}"),
            await browser.post(f"/streams/tickets?ticket={ticket}"),
            await browser.get("/followed"),
            await browser.get("/followed?ticket="),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
        assert (await browser.get(f"/followed?tick%65t={ticket}")).json()["query"] == ""


async def test_with_a_header_the_header_counts() -> None:
    built = app(ManualClock())
    async with client(built, token()) as buyer:
        ticket = await bought(buyer)
        buyer.headers["authorization"] = "Bearer nonsense"
        assert (await buyer.get(f"/followed?ticket={ticket}")).json()["code"] == "token_malformed"


async def test_a_ticket_of_a_token_that_has_ended_is_as_late_as_the_token() -> None:
    clock = ManualClock()
    built = app(clock)
    async with client(built, token(ttl_s=10)) as buyer, client(built) as browser:
        ticket = await bought(buyer)
        clock.advance(10)
        assert (await browser.get(f"/followed?ticket={ticket}")).json()["code"] == "token_expired"


async def test_without_the_store_tickets_are_refused_and_headers_go_on() -> None:
    built = app(ManualClock(), Away(ManualClock()))
    async with client(built, token()) as buyer, client(built) as browser:
        for answer in (await buyer.post("/streams/tickets"), await browser.get("/followed?ticket=abc")):
            assert (answer.status_code, answer.json()["code"]) == (503, "tickets_unavailable")
            assert answer.headers["retry-after"] == "1"
        assert (await buyer.get("/followed")).status_code == 200
    assert STATUS["tickets_unavailable"] == 503


async def test_neither_log_nor_store_has_the_ticket(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    kept = MemoryCache(clock)
    built = app(clock, kept)
    with caplog.at_level(logging.DEBUG):
        async with client(built, token()) as buyer, client(built) as browser:
            ticket = await bought(buyer)
            assert ticket not in repr(vars(kept))
            await browser.get(f"/followed?ticket={ticket}")
            await browser.get(f"/followed?ticket={ticket}")
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert all(ticket not in record.getMessage() for record in ours)
