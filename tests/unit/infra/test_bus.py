"""Reading a bus that is away at first."""

from __future__ import annotations

import asyncio

import pytest

from infra import bus
from infra.bus import BusError, insisting


async def test_a_bus_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, calls = asyncio.Event(), 0

    async def reading(stopped: asyncio.Event) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise BusError("away")
        stopped.set()

    monkeypatch.setattr(bus, "RETRY_S", 0.001)
    await asyncio.wait_for(insisting("prices", reading, stop), 5)
    assert calls == 3
