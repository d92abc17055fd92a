"""The order stream may be opened with a ticket, and ends with the token that opened it or bought the ticket."""

from __future__ import annotations

import asyncio

import pytest

from api.app import build
from infra.process import background
from tests.unit.api.doors import client, settings, token
from tests.unit.order_service.house import house


@pytest.mark.parametrize("way", ["token", "ticket"])
async def test_it_ends_with_the_proof_of_who_follows(way: str) -> None:
    async with house() as at:
        clock = at.clock
        app = build(settings(), {"orders": at.doors}, ("orders",), clock)
        async with client(app, token()) as page, client(app) as browser, background(at.doors.fanout.run):
            while not at.doors.fanout.ready():  # noqa: ASYNC110 - it is another task's progress
                await asyncio.sleep(0)
            ticket = (await page.post("/streams/tickets")).json()["ticket"]
            if way == "token":
                following = asyncio.create_task(page.get("/orders/stream"))
            else:
                following = asyncio.create_task(browser.get("/orders/stream", params={"ticket": ticket}))
            while not at.doors.fanout._followers:  # noqa: ASYNC110 - it is another task's progress
                await asyncio.sleep(0)
            clock.advance(60)
            async with asyncio.timeout(5):
                answer = await following
            assert answer.text.endswith('event: expired\ndata: {"code":"token_expired"}\n\n')
            assert at.doors.fanout._followers == {}
