"""The hub: reads every tick itself, keeps the latest quotes, and hands what changed to its clients once per flush.

A hub belongs to no consumer group: each process that serves prices reads the whole topic. It starts from the days that
the ingest left in the cache, else in the store, and reads on from their offsets, so its day values are exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from infra.bus import Bus, Message, Offsets, Subscription, TopicPartition, insisting
from infra.cache import Cache, CacheDown
from infra.clock import NS_PER_MS, Clock
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, Malformed, MarketStatus, Tick, decode
from price_service.domain.days import Snapshot
from price_service.live.followers import Followers
from price_service.live.frames import quote_frame
from price_service.live.ports import Snapshots
from price_service.live.quotes import QuoteTable
from price_service.store.cached import MAP, snapshot
from price_service.store.records import StoreAway

log = structlog.get_logger(__name__)

MESSAGES_MAX = 5_000
WAIT_S = 0.2
# The first read of a partition has to connect and fetch; an empty answer after this long means that there is nothing.
FIRST_WAIT_S = 1.0
AGE_EVERY_S = 1.0


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
    ) -> None:
        self.followers = Followers()
        self.quotes: dict[str, bytes] = {}
        self._bus = bus
        self._cache = cache
        self._store = store
        self._clock = clock
        self._flush_s = flush_ms / 1000
        self._first_wait_s = first_wait_s
        self._wait_s = wait_s
        self._table = QuoteTable(stale_after_ms)
        self._decode = msgspec.json.Decoder(Tick).decode
        self._flushed_s = self._aged_s = clock.monotonic_s()
        self._caught_up = False
        self._listed = False

    def ready(self) -> bool:
        """The quotes are those of now, not of a replay."""
        return self._caught_up and self._listed

    async def run(self, stop: asyncio.Event) -> None:
        """Follow `prices` until `stop`."""
        await insisting(PRICES, self._follow_prices, stop)

    async def follow_listings(self, stop: asyncio.Event) -> None:
        """Follow `instruments` and `market-status` until `stop`."""
        await insisting(INSTRUMENTS, self._follow_listings, stop)

    async def _follow_prices(self, stop: asyncio.Event) -> None:
        started_ms = self._now_ms()
        subscription = await self._bus.read([PRICES], await self._warm())
        wait_s = self._first_wait_s
        try:
            while not stop.is_set():
                messages = await subscription.batch(MESSAGES_MAX, wait_s)
                self._apply(messages)
                if not self._caught_up and (not messages or max(m.timestamp_ms for m in messages) >= started_ms):
                    self._caught_up = True
                    log.info("hub_caught_up", symbols=len(self.quotes))
                if self._caught_up:
                    wait_s = self._wait_s
                    await self._pace(subscription, len(messages))
                self._flush()
        finally:
            await subscription.close()

    async def _follow_listings(self, stop: asyncio.Event) -> None:
        subscription = await self._bus.read([INSTRUMENTS, MARKET_STATUS], "earliest")
        try:
            while not stop.is_set():
                messages = await subscription.batch(MESSAGES_MAX, self._wait_s if self._listed else self._first_wait_s)
                for message in messages:
                    self._list(message)
                if messages:
                    self._flush()
                else:
                    self._listed = True
        finally:
            await subscription.close()

    async def _warm(self) -> Offsets:
        for source in (self._from_cache, self._from_store):
            if (found := await source()) is not None and found.offsets:
                self._table.load(found.days)
                log.info("hub_warmed", source=source.__name__, days=len(found.days), offsets=len(found.offsets))
                return {TopicPartition(PRICES, partition): offset for partition, offset in found.offsets.items()}
        return {}

    async def _from_cache(self) -> Snapshot | None:
        try:
            return snapshot(await self._cache.read_map(MAP))
        except (CacheDown, Malformed) as error:
            log.warning("hub_starts_without_the_cache", error=str(error))
            return None

    async def _from_store(self) -> Snapshot | None:
        try:
            return await self._store.snapshot()
        except StoreAway as error:
            log.warning("hub_starts_without_the_store", error=str(error))
            return None

    async def _pace(self, subscription: Subscription, taken: int) -> None:
        """Let a flush interval pass and take what came meanwhile, so that one flush carries all of it."""
        left_s = self._flushed_s + self._flush_s - self._clock.monotonic_s()
        if 0 < taken < MESSAGES_MAX and left_s > 0:
            await asyncio.sleep(left_s)
            self._apply(await subscription.batch(MESSAGES_MAX, 0))

    def _apply(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                tick = self._decode(message.value or b"")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # the ingest parks it
            self._table.tick(tick, message.partition, max(message.timestamp_ms, 0))

    def _list(self, message: Message) -> None:
        if message.value is None:
            return
        try:
            if message.topic == INSTRUMENTS:
                self._table.listed(decode(Instrument, message.value))
            else:
                self._table.status(decode(MarketStatus, message.value))
        except Malformed as error:
            log.error("listing_malformed", topic=message.topic, offset=message.offset, error=str(error))

    def _flush(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._aged_s >= AGE_EVERY_S:
            self._aged_s = now_s
            self._table.age(self._now_ms())
        self._flushed_s = now_s
        if changed := self._table.changed():
            quotes = {symbol: self._table.quote(symbol) for symbol in changed}
            self.quotes.update(quotes)
            self.followers.publish(self._frames(quotes))

    def _frames(self, quotes: Mapping[str, bytes]) -> dict[str, bytes]:
        return {symbol: quote_frame(quote, self._table.received_ms(symbol)) for symbol, quote in quotes.items()}

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS
