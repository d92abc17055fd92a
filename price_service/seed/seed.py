"""The part of the worker that makes up history for symbols that have none, one at a time and slowly. It runs in one
process at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from zlib import crc32
from zoneinfo import ZoneInfo

import structlog

from infra.clock import NS_PER_S, Ids, ManualClock, wait
from infra.contracts import Instrument
from infra.telemetry import SYMBOLS_SEEDED
from price_service.domain.trading_days import NEW_YORK, session_hours, trading_days
from price_service.seed.history import DAYS, Hours, MadeUp, made_up
from price_service.seed.ports import SeedStore
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
# Seconds of rest after each second of work: the ingest shares the process, and has the right of way.
REST = 3.0


class Seeding:
    def __init__(self, store: SeedStore, look_every_s: float = LOOK_EVERY_S, rest: float = REST) -> None:
        self._store = store
        self._look_every_s = look_every_s
        self._rest = rest
        self._looked_at: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._all(stop)
            except StoreAway as error:
                log.warning("seeding_waits_for_the_store", error=str(error))
            await wait(stop, self._look_every_s)

    async def _all(self, stop: asyncio.Event) -> None:
        for instrument in await self._store.unseeded():
            if instrument.symbol in self._looked_at or instrument.previous_close_micros <= 0:
                continue
            if stop.is_set():
                return
            begun_s = asyncio.get_running_loop().time()
            await self._one(instrument)
            self._looked_at.add(instrument.symbol)
            await wait(stop, self._rest * (asyncio.get_running_loop().time() - begun_s))

    async def _one(self, instrument: Instrument) -> None:
        before_ns = instrument.session * NS_PER_S
        made = await asyncio.to_thread(history_before, instrument, before_ns)
        if made is None or not await self._store.save(made, before_ns):
            log.info("symbol_not_seeded", symbol=instrument.symbol)
            return
        SYMBOLS_SEEDED.inc()
        log.info("symbol_seeded", symbol=made.symbol, days=len(made.days), minutes=len(made.minutes))


def history_before(instrument: Instrument, before_ns: int) -> MadeUp | None:
    """Of the trading days that had ended at this moment; None when the calendar knows of none."""
    last = datetime.fromtimestamp(before_ns // NS_PER_S, UTC).date()
    sessions = [hours for day in trading_days(last - timedelta(days=2 * DAYS), last) if (hours := _hours(day))]
    ended = [hours for hours in sessions if hours.close_ns <= before_ns][-DAYS:]
    if not ended:
        return None
    # The same symbol has the same history in every process and on every run.
    random = Ids(ManualClock(), seed=crc32(instrument.symbol.encode())).random
    return made_up(instrument, ended, random)


def _hours(day: date) -> Hours | None:
    hours = session_hours(day)
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(NEW_YORK))
    return hours and Hours(round(midnight.timestamp()) * NS_PER_S, *hours)
