"""What is traded, from the topic `instruments`: each deciding process reads it whole and keeps it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import structlog

from infra.bus import Bus, Message, insisting
from infra.contracts import INSTRUMENTS, Instrument, Malformed, decode
from order_service.domain.checks import Listing

log = structlog.get_logger(__name__)
MESSAGES_MAX = 1000


class Catalogue:
    """`listings` is replaced whole, never changed: a batch decides on one state of the market."""

    def __init__(self, bus: Bus, poll_s: float = 0.5) -> None:
        self._bus = bus
        self._poll_s = poll_s
        self.listings: Mapping[str, Listing] = MappingProxyType({})

    def ready(self) -> bool:
        return bool(self.listings)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the topic until `stop`, on what is known while the bus is away."""
        await insisting(INSTRUMENTS, self._follow, stop)

    async def _follow(self, stop: asyncio.Event) -> None:
        subscription = await self._bus.read([INSTRUMENTS], "earliest")
        try:
            while not stop.is_set():
                if messages := await subscription.batch(MESSAGES_MAX, self._poll_s):
                    self.listings = merged(self.listings, messages)
        finally:
            await subscription.close()


def merged(listings: Mapping[str, Listing], messages: Iterable[Message]) -> Mapping[str, Listing]:
    """The listings after these messages; an empty value delists. What cannot be read is logged and left out: every
    process reads this topic itself, so none of them owns its dead letters."""
    after = dict(listings)
    for message in messages:
        symbol = (message.key or b"").decode(errors="replace")
        if message.value is None:
            after.pop(symbol, None)
            continue
        try:
            found: Instrument = decode(Instrument, message.value)
        except Malformed as error:
            log.error("instrument_malformed", offset=message.offset, error=str(error))
            continue
        if found.tick_micros < 1 or found.lot < 1:
            log.error("instrument_without_tick_or_lot", symbol=found.symbol)
            continue
        after[found.symbol] = Listing(found.symbol, found.tick_micros, found.lot)
    return MappingProxyType(after)
