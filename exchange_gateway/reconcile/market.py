"""The session that the venue is in, from the topic `market-status`."""

from __future__ import annotations

import asyncio

import structlog

from infra.bus import Bus, insisting, next_offsets
from infra.clock import wait
from infra.contracts import MARKET_STATUS, Malformed, MarketStatus, decode

log = structlog.get_logger(__name__)

MESSAGES_MAX = 1000
POLL_S = 0.5
WHOLE_MARKET = "*"


class Market:
    """`session` is 0 until the venue has named one."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended_session = 0
        self.session = 0

    def ready(self) -> bool:
        """The topic was read to the end that it had when the reading began."""
        return self._known.is_set()

    async def follow(self, stop: asyncio.Event) -> None:
        await insisting(MARKET_STATUS, self._follow, stop)

    async def wait_until_known(self, stop: asyncio.Event) -> None:
        """Until the topic was read to its end, or the process stops."""
        while not (self._known.is_set() or stop.is_set()):
            await wait(self._known, POLL_S)

    async def wait_for_end(self, stop: asyncio.Event, seconds: float) -> bool:
        """Wait so long; True as soon as a session ends, which is told once. Cut short when the process stops."""
        ways = [asyncio.ensure_future(event.wait()) for event in (stop, self._ended)]
        try:
            await asyncio.wait(ways, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        ended = self._ended.is_set()
        self._ended.clear()
        return ended

    async def _follow(self, stop: asyncio.Event) -> None:
        ends = dict(await self._bus.ends([MARKET_STATUS]))
        subscription = await self._bus.read([MARKET_STATUS], "earliest")
        try:
            while not stop.is_set():
                if not ends:
                    self._known.set()
                messages = await subscription.batch(MESSAGES_MAX, POLL_S)
                for message in messages:
                    self._note(message.value)
                seen = next_offsets(messages)
                ends = {place: end for place, end in ends.items() if seen.get(place, 0) < end}
        finally:
            await subscription.close()

    def _note(self, value: bytes | None) -> None:
        """The venue repeats its status on every connection, and the topic has the past: an end counts once, live."""
        try:
            status: MarketStatus = decode(MarketStatus, value)
        except Malformed as error:
            log.error("market_status_malformed", error=str(error))
            return
        if status.symbol != WHOLE_MARKET or status.session < self.session:
            return
        self.session = status.session
        if status.kind == "close" and status.session > self._ended_session:
            self._ended_session = status.session
            if self._known.is_set():
                self._ended.set()
