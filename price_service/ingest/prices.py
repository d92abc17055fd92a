"""The topic handler of `prices`: every tick is stored exactly once, with its bars, its day and its offset.

The truth about offsets is the store's, moved by compare-and-set in the transaction of the ticks; committing them to the
bus as well only shows the lag. After any failure what was known of the partitions is forgotten and loaded again, so a
save whose outcome is unknown, a takeover by another worker and a plain restart are one and the same case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import structlog

from infra.bus import BusError, Message, Offsets, Producer, TopicPartition
from infra.dlq.park import Park, park
from infra.telemetry import TICKS_DROPPED, TICKS_STORED
from price_service.domain.days import Day, DayKey
from price_service.ingest.mirror import Mirror
from price_service.ingest.ports import TickStore
from price_service.ingest.ticks import collect, decode, keys, moves
from price_service.store.records import Conflict, Received, StoreAway

log = structlog.get_logger(__name__)

GROUP = "price-service"
# Waited out with the batch in hand. A conflict is: the partition went to another worker, or came back from one.
TRANSIENT = (StoreAway, Conflict, BusError)
# Sessions of one symbol whose days are held in memory; an older one is loaded when a straggler of it comes.
SESSIONS_HELD = 2


class Ingest:
    """Handles batches of one worker. Knows, per partition it was given, the next offset and the days."""

    def __init__(self, store: TickStore, producer: Producer, mirror: Mirror) -> None:
        self._store = store
        self._producer = producer
        self._mirror = mirror
        self._offsets: dict[int, int] = {}
        self._days: dict[int, dict[str, dict[int, Day]]] = {}

    async def assigned(self, places: Collection[TopicPartition]) -> Offsets:
        """Partitions were given to this worker: read them from where the store says."""
        partitions = {place.partition for place in places}
        self._forget(partitions)
        await self._adopt(partitions)
        return {place: self._offsets[place.partition] for place in places}

    async def __call__(self, messages: Sequence[Message]) -> Sequence[Park]:
        partitions = {message.partition for message in messages}
        try:
            await self._adopt(partitions - self._offsets.keys())
            fresh = [message for message in messages if message.offset >= self._offsets[message.partition]]
            if fresh:
                await self._store_fresh(fresh)
        except BaseException:
            self._forget(partitions)
            raise
        return ()

    async def _store_fresh(self, messages: Sequence[Message]) -> None:
        ticks, parked = decode(messages)
        days = await self._load(ticks)
        batch = collect(ticks, days, moves(messages, self._offsets.__getitem__))
        # Before the save: its offsets say that these messages are dealt with.
        await park(self._producer, GROUP, parked)
        await self._store.save(batch)
        for move in batch.moves:
            self._offsets[move.partition] = move.following
            self._mirror.moved(move.partition, move.following)
        self._mirror.changed(batch.days)
        TICKS_STORED.inc(len(batch.ticks))
        TICKS_DROPPED.inc(batch.duplicates)

    async def _adopt(self, partitions: Collection[int]) -> None:
        if not partitions:
            return
        offsets, days = await self._store.adopt(partitions)
        for partition, offset in offsets.items():
            self._offsets[partition] = offset
            self._days[partition] = {}
            self._mirror.moved(partition, offset)
        for day in days:
            self._days[day.partition][day.symbol] = {day.session: day}
        self._mirror.changed(days)
        log.info("partitions_adopted", offsets=offsets, days=len(days))

    async def _load(self, ticks: Sequence[Received]) -> dict[DayKey, Day]:
        """The days of these ticks: held, stored, or new."""
        days: dict[DayKey, Day] = {}
        missing: dict[DayKey, int] = {}
        for partition, key in keys(ticks):
            held = self._days[partition].get(key.symbol, {}).get(key.session)
            if held is None:
                missing[key] = partition
            else:
                days[key] = held
        if missing:
            found = {day.key: day for day in await self._store.days(missing.keys())}
            for key, partition in sorted(missing.items()):
                day = days[key] = found.get(key) or Day(key.symbol, key.session, partition)
                day.partition = partition
                self._hold(day)
        return days

    def _hold(self, day: Day) -> None:
        sessions = self._days[day.partition].setdefault(day.symbol, {})
        sessions[day.session] = day
        for session in sorted(sessions)[:-SESSIONS_HELD]:
            del sessions[session]

    def _forget(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._offsets.pop(partition, None)
            self._days.pop(partition, None)
