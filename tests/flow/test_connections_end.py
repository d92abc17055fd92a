"""A connection that has ended leaves nothing behind that only the garbage collector would find: it looks seldom."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from api.unread import Bounded
from tests.flow.served_quotes import WAYS, House, house, until
from tests.unit.api.doors import token

START = f" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n\r\n".encode()
QUOTE, NOTHING = b"GET /stockPrices?symbol=AAPL" + START, b"GET /stockPrices?symbol=NOPE" + START
TIMES = 5


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[Bounded]:
    """Every connection that was made and is still somewhere in memory."""
    found: weakref.WeakSet[Bounded] = weakref.WeakSet()
    made = Bounded.connection_made

    def noted(self: Bounded, transport: Any) -> None:
        found.add(self)
        made(self, transport)

    monkeypatch.setattr(Bounded, "connection_made", noted)
    return found


async def visit(at: House, way: str, said: bytes, waits: bool) -> None:
    client = await at.client(way)
    await client.send(said)
    if waits:
        await client.reply()
    await client.close()


CASES = {
    "a quote": (QUOTE, True),
    "a refusal": (NOTHING, True),
    "several": (NOTHING + NOTHING + QUOTE, True),
    "several unread": (NOTHING + NOTHING, False),
    "left alone": (b"GET /stockPrices/search?q=a" + START, False),
    "half a request": (b"GET /stockPrices?symbol=AA", False),
    "no request": (b"\x16\x03\x01\r\n\r\n", True),
    "silence": (b"", False),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_leaves_nothing_behind(met: weakref.WeakSet[Bounded], way: str) -> None:
    async with house() as at:
        await until(lambda: not met)
        gc.disable()
        try:
            for what, (said, waits) in CASES.items():
                for _ in range(TIMES):
                    await visit(at, way, said, waits)
                await until(lambda: not met)
                assert not met, what
        finally:
            gc.enable()
