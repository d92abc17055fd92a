"""Waiting for trouble to pass, but never past the end of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import structlog

from exchange_gateway.backoff import full_jitter_s
from exchange_gateway.orders.guarded import Guarded
from exchange_gateway.venue import VenueAway
from infra.bus import BusError
from infra.clock import wait
from infra.db import TRANSIENT
from infra.worker import Stopping

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
PAUSE_S_MAX = 5.0


class Waiting:
    """The Patience of one run of the order room."""

    def __init__(self, stop: asyncio.Event, venue: Guarded, random: Random) -> None:
        self._stop = stop
        self._venue = venue
        self._random = random

    async def pause(self, seconds: float) -> None:
        """For the middle of a delivery: at the end of the process nothing may be decided in a hurry."""
        await wait(self._stop, seconds)
        if self._stop.is_set():
            raise VenueAway("the process stops; the command comes again")

    async def for_venue(self, tries: int) -> None:
        """The closing of the breaker is the sign for all who wait for it; otherwise it is tried ever more rarely."""
        self._check()
        if self._venue.closed and tries:
            await wait(self._stop, full_jitter_s(tries, FIRST_PAUSE_S, PAUSE_S_MAX, self._random))
        elif not self._venue.closed:
            await self._venue.wait_for_change(PAUSE_S_MAX)
        self._check()

    async def insist(self, step: Callable[[], Awaitable[None]]) -> None:
        tries = 0
        while True:
            try:
                return await step()
            except (*TRANSIENT, BusError) as error:
                log.warning("waiting_for_trouble_to_pass", error=repr(error))
            tries += 1
            self._check()
            await wait(self._stop, full_jitter_s(tries, FIRST_PAUSE_S, PAUSE_S_MAX, self._random))
            self._check()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopping
