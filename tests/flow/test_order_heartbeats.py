"""A client that keeps its orders from the stream proves by the heartbeats that it missed nothing; one that did, learns
it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from itertools import pairwise
from typing import Any, NamedTuple

from tests.flow.test_orders_twin import FINAL, investor, running
from tests.flow.walking import eventually
from tests.unit.order_service.house import GOOD, House


class Said(NamedTuple):
    event: str
    data: dict[str, Any]


class Client:
    """Knows what it was sent, and nothing else."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.newest = 0

    def take(self, event: dict[str, Any]) -> None:
        self.newest = event["accountSeq"]
        self.orders[event["orderId"]] = event["order"]

    def agrees(self, beat: dict[str, Any]) -> bool:
        mine = sorted((o["id"], o["version"], o["status"]) for o in self.orders.values() if o["status"] not in FINAL)
        lines = "".join(f"{order_id} {version} {status}\n" for order_id, version, status in mine)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        return (beat["openOrders"], beat["digest"]) == (len(mine), digest)


async def listened(url: str, heard: list[Said], opened: asyncio.Event, since: str | None = "0") -> None:
    query = {"since": since} if since else {}
    async with investor(url, 1) as client, client.stream("GET", "/orders/stream", params=query) as answer:
        name, numbered = "", False
        async for line in answer.aiter_lines():
            opened.set()
            if line.startswith("id: "):
                numbered = True
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: {") and name in ("order", "heartbeat"):
                assert numbered is (name == "order")
                heard.append(Said(name, json.loads(line[6:])))
                name, numbered = "", False


async def traded(seed: int) -> list[Said]:
    """What a stream said while orders were placed, filled, canceled and left open."""
    chooser, heard = random.Random(seed), list[Said]()
    async with asyncio.timeout(60), running(seed) as (home, _, url):
        opened = asyncio.Event()
        listening = asyncio.create_task(listened(url, heard, opened))
        await opened.wait()
        async with investor(url, 1) as client:
            for _ in range(30):
                # An even price is filled, another rests.
                amount = f"580.{chooser.choice(('10', '20', '21', '23'))}"
                answer = await client.post(
                    "/orders", json={**GOOD, "quantity": chooser.randint(2, 99), "amount": amount}
                )
                assert answer.status_code == 201, answer.text
                if chooser.random() < 0.3:
                    await client.delete(f"/orders/{answer.json()['id']}")
                if chooser.random() < 0.5:
                    await home.doors.heartbeats.beat(1)
                await asyncio.sleep(0)
            settled = -1
            while settled != home.store.accounts[1].seq:
                settled = home.store.accounts[1].seq
                await home.doors.heartbeats.beat(1)
                while not any(said.event == "heartbeat" and said.data["accountSeq"] >= settled for said in heard):
                    await asyncio.sleep(0.01)
                    await home.doors.heartbeats.beat(1)
        listening.cancel()
        await asyncio.wait({listening})
    return heard


async def test_every_heartbeat_agrees_with_what_the_client_was_sent() -> None:
    client, beats, with_open = Client(), 0, 0
    for said in await traded(3):
        if said.event == "order":
            client.take(said.data)
            continue
        assert said.data["accountSeq"] == client.newest
        assert client.agrees(said.data)
        beats += 1
        with_open += said.data["openOrders"] > 0
    assert beats >= 5
    assert with_open
    assert {order["status"] for order in client.orders.values()} >= {"FILLED", "CANCELED"}


async def test_a_client_that_misses_an_event_learns_it_from_the_next_heartbeat() -> None:
    heard = await traded(4)
    tried = 0
    for at, (before, after) in enumerate(pairwise(heard)):
        if (before.event, after.event) != ("order", "heartbeat"):
            continue
        client = Client()
        for said in heard[:at]:
            if said.event == "order":
                client.take(said.data)
        known = client.orders.get(before.data["orderId"])
        if known is None and before.data["order"]["status"] in FINAL:
            continue  # it was never seen open: nothing that is open differs
        assert not client.agrees(after.data)
        tried += 1
    assert tried >= 3


async def test_a_stream_that_begins_now_says_where_now_is() -> None:
    heard: list[Said] = []
    async with asyncio.timeout(30), running(1) as (home, _, url):
        async with investor(url, 1) as client:
            resting = {**GOOD, "amount": "580.21"}
            assert (await client.post("/orders", json=resting)).status_code == 201
            await eventually("the exchange has it", lambda: numbered(home, 2), 10, 0.01)
            opened = asyncio.Event()
            listening = asyncio.create_task(listened(url, heard, opened, since=None))
            await opened.wait()
            assert (await client.post("/orders", json=resting)).status_code == 201

            async def told() -> bool:
                return [said.event for said in heard].count("order") >= 2

            await eventually("both of its events came", told, 10, 0.01)
        listening.cancel()
        await asyncio.wait({listening})
    assert [(said.event, said.data["accountSeq"]) for said in heard] == [("heartbeat", 2), ("order", 3), ("order", 4)]


async def numbered(home: House, seq: int) -> bool:
    return home.store.accounts[1].seq >= seq
