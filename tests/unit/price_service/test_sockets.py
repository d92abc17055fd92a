"""A WebSocket client that does not read costs a bounded queue, and in the end its connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from fastapi import WebSocket, WebSocketDisconnect

from infra.clock import Ids, ManualClock
from infra.expiry import Expiries
from infra.principal import Principal
from price_service.live.followers import Followers, Item
from price_service.live.open_streams import OpenStreams
from price_service.live.traded import Traded
from price_service.live.ws_routes import NOT_READING, UNREAD_BYTES_MAX, Sockets

ADA = Principal("ada", "investor", 7)


class Wire:
    """A WebSocket whose client reads while `reads` is set, and says what is put into `says`."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard: list[Any] = []
        self.close_code: int | None = None

    async def accept(self) -> None:
        return None

    async def receive(self) -> dict[str, Any]:
        return await self.says.get()

    async def send_text(self, text: str) -> None:
        await self.reads.wait()
        self.heard.append(json.loads(text))

    async def close(self, code: int) -> None:
        self.close_code = code

    def say(self, **message: Any) -> None:
        self.says.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})


class Everything(Traded):
    def __init__(self) -> None:
        pass

    def known(self, symbols: list[str], field: str) -> list[str]:
        return symbols


class House:
    def __init__(self, messages_max: int = 10_000) -> None:
        clock = ManualClock()
        self.followers = Followers(clock, lambda: None, unsent_bytes_max=100)
        self.registry = OpenStreams(Ids(clock, 1), Expiries(clock), 2, 10)
        channels = {"quotes": self.followers, "books": Followers(clock, lambda: None)}
        self.sockets = Sockets(cast("Any", channels), Everything(), self.registry, clock, 10, messages_max)
        self.wire = Wire()
        self.serving = asyncio.create_task(self.sockets.serve(cast("WebSocket", self.wire), ADA))

    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def publish(self, price: int) -> None:
        self.followers.publish({"A": Item(b'{"symbol":"A","price":%d}' % price, "1")})
        self.followers.flush()


async def test_a_client_that_reads_slowly_gets_the_newest_state_and_no_queue_grows() -> None:
    house = House()
    house.wire.say(type="subscribe", channel="quotes", symbols=["A"])
    await house.settled()
    for price in range(1, 1_000):
        house.publish(price)
        await house.settled()
    house.wire.reads.set()
    await house.settled()
    house.followers.flush()
    await house.settled()
    prices = [message["quotes"][0]["price"] for message in house.wire.heard[1:]]
    assert prices[-1] == 999
    assert len(prices) < 10
    house.wire.says.put_nowait({"type": "websocket.disconnect"})
    await house.serving
    assert (len(house.registry), len(house.followers)) == (0, 0)


async def test_a_client_that_asks_and_never_reads_is_given_up() -> None:
    house = House(messages_max=1_000_000)
    unread = 0
    async with asyncio.timeout(20):
        while not house.serving.done():
            for _ in range(500):
                house.wire.say(type="ping")
                unread += len(b'{"type":"pong"}')
            await asyncio.sleep(0)
    await house.serving
    assert house.wire.close_code == NOT_READING
    assert unread > UNREAD_BYTES_MAX
    assert len(house.registry) == 0


async def test_a_client_that_leaves_while_it_is_sent_to_is_no_error() -> None:
    class Gone(Wire):
        async def send_text(self, text: str) -> None:
            raise WebSocketDisconnect(1006)

    house = House()
    house.serving.cancel()
    wire = Gone()
    wire.say(type="ping")
    async with asyncio.timeout(5):
        await house.sockets.serve(cast("WebSocket", wire), ADA)
    assert len(house.registry) == 0
