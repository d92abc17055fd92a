"""The hub: reads every tick itself, keeps the latest quotes, and hands what changed to its clients once per flush.

A hub belongs to no consumer group: each process that serves prices reads the whole topic. It starts from the days that
the ingest left in the cache, else in the store, and reads on from their offsets, so its day values are exact.

It shares its event loop with every request of the process, so it works in slices and gives way between them. Where
there is more to do than fits into an interval, flushes take longer and carry newer values; nothing is queued.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import structlog

from infra.bus import Bus, Message, TopicPartition, insisting
from infra.cache import Cache
from infra.clock import NS_PER_MS, Clock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, Malformed, MarketStatus, Tick, decode
from infra.telemetry import FRAMES, STREAM_SKIPS, STREAMS_STUCK
from price_service.live.followers import STUCK_S, UNSENT_BYTES_MAX, Counts, Item
from price_service.live.lanes import Lanes
from price_service.live.ports import Snapshots
from price_service.live.quotes import QuoteTable
from price_service.live.warm import warm
from price_service.store.wire import ticks_of

log = structlog.get_logger(__name__)

KIND = "prices"
MESSAGES_MAX = 5_000
WAIT_S = 0.2
# The first read of a partition has to connect and fetch; an empty answer after this long means that there is nothing.
FIRST_WAIT_S = 1.0
FLUSH_MS_MIN = 5
LANES = 4
# Each read costs a turn of the consumer's thread, so ticks are read this often at most, and in batches.
READS_PER_FLUSH = 4
AGE_EVERY_S = 1.0
BEAT_EVERY_S = 15.0
# A slice ends at the first of the two. The socket does its part after the slice, so what a slice writes is bounded too.
SLICE_S = 0.005
SLICE_STEPS_MAX = 8
MESSAGES_PER_STEP = 250
QUOTES_PER_STEP = 50
_FRAMES = FRAMES.labels(KIND)


class Tap(Protocol):
    """Who wants every tick of a symbol, not only the newest."""

    def tick(self, tick: Tick, partition: int, received_ms: int, value: bytes) -> None:
        """A tick that was not taken before. Must not wait, raise, or take long; `value` is the message."""
        ...


class Hub:
    """`flush_ms` is the least time between two flushes; the first tick after a pause goes out at once."""

    def __init__(
        self,
        bus: Bus,
        cache: Cache,
        store: Snapshots,
        clock: Clock,
        flush_ms: int,
        stale_after_ms: int,
        first_wait_s: float = FIRST_WAIT_S,
        wait_s: float = WAIT_S,
        unsent_bytes_max: int = UNSENT_BYTES_MAX,
        stuck_s: float = STUCK_S,
    ) -> None:
        self._news = asyncio.Event()
        self.followers = Lanes(clock, self._news.set, LANES, unsent_bytes_max, stuck_s)
        self.table = QuoteTable(stale_after_ms)
        self.taps: dict[str, set[Tap]] = {}
        self._bus = bus
        self._cache = cache
        self._store = store
        self._clock = clock
        self._flush_s = max(flush_ms, FLUSH_MS_MIN) / 1000
        self._first_wait_s = first_wait_s
        self._wait_s = wait_s
        self._flushed_s = self._aged_s = self._beaten_s = clock.monotonic_s()
        self._flushing = asyncio.Lock()
        self._counted = Counts()
        self._caught_up = False
        self._listed = False

    @property
    def quotes(self) -> dict[str, bytes]:
        """Symbol → Quote JSON, as of the last flush."""
        return self.table.quotes

    def ready(self) -> bool:
        """The quotes are those of now, not of a replay."""
        return self._caught_up and self._listed

    async def run(self, stop: asyncio.Event) -> None:
        """Follow `prices` and flush until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_flushing(stop))
            tasks.create_task(insisting(PRICES, self._follow_prices, stop))
            await stop.wait()
            self._news.set()

    async def follow_listings(self, stop: asyncio.Event) -> None:
        """Follow `instruments` and `market-status` until `stop`."""
        await insisting(INSTRUMENTS, self._follow_listings, stop)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _follow_prices(self, stop: asyncio.Event) -> None:
        started_ms = self._now_ms()
        start = await warm(self._cache, self._store)
        self.table.load(start.days)
        places = {TopicPartition(PRICES, partition): offset for partition, offset in start.offsets.items()}
        subscription = await self._bus.read([PRICES], places)
        wait_s = self._first_wait_s
        try:
            while not stop.is_set():
                messages = await subscription.batch(MESSAGES_MAX, wait_s)
                await self._in_slices(self._applying(messages))
                if messages:
                    self._news.set()
                if not self._caught_up and (not messages or max(m.timestamp_ms for m in messages) >= started_ms):
                    await self._catch_up()
                elif self._caught_up:
                    wait_s = self._wait_s
                    if 0 < len(messages) < MESSAGES_MAX:
                        await asyncio.sleep(self._flush_s / READS_PER_FLUSH)
        finally:
            await subscription.close()

    async def _catch_up(self) -> None:
        await self._flush()
        self._caught_up = True
        log.info("hub_caught_up", symbols=len(self.quotes))

    def _applying(self, messages: Sequence[Message]) -> Iterator[None]:
        """What cannot be read is passed over: the ingest parks it."""
        apply, taps = self.table.tick, self.taps
        for start in range(0, len(messages), MESSAGES_PER_STEP):
            some = messages[start : start + MESSAGES_PER_STEP]
            for message, tick in zip(some, ticks_of(some), strict=True):
                if tick is None:
                    continue
                received_ms = max(message.timestamp_ms, 0)
                if apply(tick, message.partition, received_ms) and taps:
                    for tap in tuple(taps.get(tick.s, ())):
                        tap.tick(tick, message.partition, received_ms, message.value or b"")
            yield

    async def _follow_listings(self, stop: asyncio.Event) -> None:
        subscription = await self._bus.read([INSTRUMENTS, MARKET_STATUS], "earliest")
        try:
            while not stop.is_set():
                messages = await subscription.batch(MESSAGES_MAX, self._wait_s if self._listed else self._first_wait_s)
                for message in messages:
                    self._list(message)
                if messages:
                    self._news.set()
                elif not self._listed:
                    await self._flush()
                    self._listed = True
        finally:
            await subscription.close()

    def _list(self, message: Message) -> None:
        if message.value is None:
            return
        try:
            if message.topic == INSTRUMENTS:
                self.table.listed(decode(Instrument, message.value))
            else:
                self.table.status(decode(MarketStatus, message.value))
        except Malformed as error:
            log.error("listing_malformed", topic=message.topic, offset=message.offset, error=str(error))

    # -- flushing ------------------------------------------------------------------------------------------------------

    async def _keep_flushing(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGE_EVERY_S):
                    await self._news.wait()
            left_s = self._flushed_s + self._flush_s - self._clock.monotonic_s()
            if left_s > 0:
                await asyncio.sleep(left_s)
            await self._flush()

    async def _flush(self) -> None:
        """Quotes of what has changed, to the clients that follow it; now and then, what is due with time."""
        async with self._flushing:
            self._news.clear()
            now_s = self._flushed_s = self._clock.monotonic_s()
            if now_s - self._aged_s >= AGE_EVERY_S:
                self._aged_s = now_s
                self.table.age(self._now_ms())
            for lane in self.followers.lanes:
                await self._in_slices(self._publishing())
                await self._in_slices(lane.flushing())
                await asyncio.sleep(0)
            if now_s - self._beaten_s >= BEAT_EVERY_S:
                self._beaten_s = now_s
                await self._in_slices(self.followers.beating())
            self._count()

    def _publishing(self) -> Iterator[None]:
        changed = list(self.table.changed())
        quote, received_ms = self.table.quote, self.table.received_ms
        for start in range(0, len(changed), QUOTES_PER_STEP):
            symbols = changed[start : start + QUOTES_PER_STEP]
            self.followers.publish({symbol: Item(quote(symbol), str(received_ms(symbol))) for symbol in symbols})
            yield

    def _count(self) -> None:
        counts, counted = self.followers.counts, self._counted
        _FRAMES.inc(counts.frames - counted.frames)
        STREAM_SKIPS.inc(counts.skips - counted.skips)
        STREAMS_STUCK.inc(counts.stuck - counted.stuck)
        self._counted = counts

    async def _in_slices(self, steps: Iterator[None]) -> None:
        """Do all steps, giving way to the event loop between slices of them."""
        until_s, left = self._clock.monotonic_s() + SLICE_S, SLICE_STEPS_MAX
        for _ in steps:
            left -= 1
            if not left or self._clock.monotonic_s() >= until_s:
                await asyncio.sleep(0)
                until_s, left = self._clock.monotonic_s() + SLICE_S, SLICE_STEPS_MAX

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS
