"""An order: from the client's POST to the event on its own stream that says the venue has it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

import httpx

from tests.bench.figures import paced

ACCEPTED = {"PLACED", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED"}
WARM_UP, WARM_UP_PER_S = 500, 25.0
CONNECTIONS = 16


async def tradable(api_url: str, token: str) -> str:
    """A symbol that has a price, once the feed runs."""
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient(
        base_url=api_url, headers={"authorization": f"Bearer {token}"}, trust_env=False
    ) as client:
        while time.monotonic() < deadline:
            quotes = (await client.get("/stockPrices")).json().get("quotes", [])
            if priced := [q["symbol"] for q in quotes if q["price"] and not q["name"].startswith("Bench")]:
                return str(priced[0])
            await asyncio.sleep(0.2)
    raise TimeoutError("no symbol has a price")


async def measure(api_url: str, token: str, symbol: str, per_second: float, seconds: float) -> list[float]:
    """Milliseconds per order; LIMIT orders far from the market, so that each is acknowledged and rests."""
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=CONNECTIONS)
    posted_ns: dict[str, int] = {}
    heard_ns: dict[str, int] = {}
    opened = asyncio.Event()
    async with httpx.AsyncClient(
        base_url=api_url, headers=headers, timeout=20, limits=limits, trust_env=False
    ) as client:
        quote = (await client.get("/stockPrices", params={"symbol": symbol})).json()
        amount = round(float(quote["price"]) * 0.9, 2)
        listening = asyncio.create_task(_listen(client, heard_ns, opened))
        await asyncio.wait_for(opened.wait(), 20)
        for count, rate in ((WARM_UP, WARM_UP_PER_S), (round(per_second * seconds), per_second)):
            posted_ns.clear()
            await _post_all(client, symbol, amount, count, rate, posted_ns)
            await _heard(posted_ns, heard_ns)
        listening.cancel()
    return [(heard_ns[order_id] - sent) / 1e6 for order_id, sent in posted_ns.items()]


async def _post_all(
    client: httpx.AsyncClient, symbol: str, amount: float, count: int, rate: float, posted_ns: dict[str, int]
) -> None:
    body = {"orderType": "buy", "type": "LIMIT", "symbol": symbol, "quantity": 1, "amount": amount}

    async def post() -> None:
        sent = time.perf_counter_ns()
        # The same order again and again is meant: each has a key of its own.
        answer = await client.post("/orders", json=body, headers={"Idempotency-Key": uuid4().hex})
        answer.raise_for_status()
        posted_ns[answer.json()["id"]] = sent

    async with asyncio.TaskGroup() as posts:

        async def emit(_: int) -> None:
            posts.create_task(post())

        await paced(rate, count / rate, emit)


async def _listen(client: httpx.AsyncClient, heard_ns: dict[str, int], opened: asyncio.Event) -> None:
    async with client.stream("GET", "/orders/stream", timeout=None) as answer:
        answer.raise_for_status()
        opened.set()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                order = _order(json.loads(line[6:]))
                if order.get("status") in ACCEPTED:
                    heard_ns.setdefault(order["id"], time.perf_counter_ns())


def _order(event: dict[str, Any]) -> dict[str, Any]:
    order: dict[str, Any] = event.get("order", event)
    return order


async def _heard(posted_ns: dict[str, int], heard_ns: dict[str, int]) -> None:
    deadline = time.monotonic() + 30
    while missing := [order_id for order_id in posted_ns if order_id not in heard_ns]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(missing)} orders were never acknowledged on the stream")
        await asyncio.sleep(0.02)
