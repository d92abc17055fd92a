"""What the quotes may rely on when they ask the venue: the twin, and the gateway's own routes over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from exchange_gateway.feed.on_request import OnRequest
from exchange_gateway.feed.routes import routes
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import PRICES, Quote, Tick, Trade, decode
from price_service.live.fetching import VenueAway, VenueQuotes
from price_service.live.venue_http import HttpVenueQuotes
from price_service.live.venue_memory import MemoryVenueQuotes
from tests.unit.exchange_gateway.test_on_request import ODD, QUOTE, SESSION, Market
from tests.unit.exchange_gateway.words import read_all


@dataclass
class House:
    """A venue that trades AAPL alone. `switch` has an `is_away` or `away` to set."""

    quotes: VenueQuotes
    bus: MemoryBus
    switch: Any

    def goes_away(self) -> None:
        self.switch.is_away = self.switch.away = True


class VenueQuotesContract:
    async def test_what_the_venue_has_newest_is_on_the_bus_under_its_own_numbers(self, at: House) -> None:
        published = await at.quotes.publish("AAPL")
        ticks: list[Tick] = [decode(Tick, record.value or b"") for record in await read_all(at.bus, PRICES)]
        assert [(tick.d, tick.q) for tick in ticks] == published == [(SESSION, 1), (SESSION, 2)]
        assert [type(tick) for tick in ticks] == [Trade, Quote]

    async def test_a_symbol_that_it_does_not_trade_is_nothing(self, at: House) -> None:
        assert await at.quotes.publish("ZZZ") == []
        assert await read_all(at.bus, PRICES) == []

    async def test_no_answer_is_an_error_of_its_own(self, at: House) -> None:
        at.goes_away()
        with pytest.raises(VenueAway):
            await at.quotes.publish("AAPL")


class TestInMemory(VenueQuotesContract):
    @pytest.fixture
    def at(self) -> House:
        bus = MemoryBus(ManualClock())
        venue = MemoryVenueQuotes(bus.producer(), {"AAPL": [decode(Tick, ODD), decode(Tick, QUOTE)]})
        return House(venue, bus, venue)


class TestOverHttp(VenueQuotesContract):
    @pytest.fixture
    async def at(self) -> AsyncIterator[House]:
        bus, market = MemoryBus(ManualClock()), Market()
        app = FastAPI()
        app.include_router(routes(OnRequest(market, bus.producer(), 4, 5.0)))
        quotes = HttpVenueQuotes("http://gateway.test", httpx.ASGITransport(app))
        yield House(quotes, bus, market)
        await quotes.close()
