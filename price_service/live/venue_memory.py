"""The twin of the gateway's quotes: a venue of a few ticks that publishes them on any bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.bus import Producer
from infra.contracts import PRICES, Tick, encode
from price_service.live.fetching import Published, VenueAway


class MemoryVenueQuotes:
    """`ticks`: what the venue has newest of each symbol. `is_away` makes it fail; `asked` lists the questions."""

    def __init__(self, producer: Producer, ticks: Mapping[str, Sequence[Tick]] | None = None) -> None:
        self.ticks = dict(ticks or {})
        self.is_away = False
        self.asked: list[str] = []
        self._producer = producer

    async def publish(self, symbol: str) -> list[Published]:
        self.asked.append(symbol)
        if self.is_away:
            raise VenueAway("switched off")
        ticks = self.ticks.get(symbol, ())
        for tick in ticks:
            await self._producer.send(PRICES, symbol.encode(), encode(tick))
        return [Published(tick.d, tick.q) for tick in ticks]
