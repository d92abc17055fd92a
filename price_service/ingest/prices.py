"""The topic handler of `prices`: every tick is stored exactly once, with its bars, its day and its offset.

The truth about offsets is the store's, moved by compare-and-set in the transaction of the ticks; committing them to the
bus as well only shows the lag. After any failure what was known of the partitions is forgotten and loaded again, so a
save whose outcome is unknown, a takeover by another worker and a plain restart are one and the same case.

While PostgreSQL works on one transaction, the next one is made. Should the first fail, the second is never begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence

import structlog

from infra.bus import BusError, Message, Offsets, Producer, TopicPartition
from infra.dlq.park import Park, park
from infra.telemetry import TICKS_DROPPED, TICKS_STORED
from price_service.domain.days import Day, DayKey
from price_service.domain.holes import Runs, holes_in
from price_service.ingest.mirror import Mirror
from price_service.ingest.ports import TickStore
from price_service.ingest.ticks import Gathering, Readable, moves
from price_service.store.columns import Columns
from price_service.store.records import Batch, Conflict, StoreAway

log = structlog.get_logger(__name__)

GROUP = "price-service"
# Waited out with the batch in hand. A conflict is: the partition went to another worker, or came back from one.
TRANSIENT = (StoreAway, Conflict, BusError)
# Sessions of one symbol whose days are held in memory; an older one is loaded when a straggler of it comes.
SESSIONS_HELD = 2
# A few steps of a millisecond each: how long a save that has something to say to PostgreSQL waits for its turn.
PIECE_MESSAGES = 4_096


class Ingest:
    """Handles batches of one worker. Knows, per partition it was given, the next offset and the days.

    `transaction_max` bounds the messages of one transaction; a call may bring several transactions' worth.
    """

    def __init__(self, store: TickStore, producer: Producer, mirror: Mirror, transaction_max: int = 16_000) -> None:
        self._store = store
        self._producer = producer
        self._mirror = mirror
        self._transaction_max = transaction_max
        self._offsets: dict[int, int] = {}
        self._days: dict[DayKey, Day] = {}
        self._saving: asyncio.Task[None] | None = None
        # An assignment can come while a batch is handled, since the worker reads ahead.
        self._turn = asyncio.Lock()

    def partitions(self) -> Collection[int]:
        """Those that this worker was given and has heard nothing else of since."""
        return self._offsets.keys()

    def holes(self) -> Mapping[DayKey, Runs]:
        """Every day that is held, with the numbers below its newest that have not come (mostly none)."""
        return {key: holes_in(day.seen) for key, day in self._days.items()}

    async def assigned(self, places: Collection[TopicPartition]) -> Offsets:
        """Partitions were given to this worker: read them from where the store says. Others may be somebody else's now;
        should they still be ours, they are loaded again with their next message."""
        partitions = {place.partition for place in places}
        async with self._turn:
            self._offsets.clear()
            self._days.clear()
            await self._adopt(partitions)
            return {place: self._offsets[place.partition] for place in places}

    async def __call__(self, messages: Sequence[Message]) -> Sequence[Park]:
        first = {message.partition: message.offset for message in reversed(messages)}
        async with self._turn:
            try:
                await self._adopt(first.keys() - self._offsets.keys())
                fresh = messages
                if any(offset < self._offsets[partition] for partition, offset in first.items()):
                    fresh = [m for m in messages if m.offset >= self._offsets[m.partition]]
                for part in _parts(fresh, self._transaction_max):
                    batch = await self._made(part)
                    await self._saved()
                    self._saving = asyncio.create_task(self._save(batch))
                await self._saved()
            except BaseException:
                await self._abandon()
                self._forget(first.keys())
                raise
        return ()

    async def _made(self, messages: Sequence[Message]) -> Batch:
        """One transaction's worth. Between its steps the save of the one before goes on."""
        gathering = Gathering(self._days)
        for some in _parts(messages, PIECE_MESSAGES):
            readable = Readable(some)
            await asyncio.sleep(0)
            # Before the save: its offsets say that these messages are dealt with.
            await park(self._producer, GROUP, readable.parked)
            columns = Columns(readable.ticks, [message.timestamp_ms for message in readable.messages])
            await self._load(columns.days, readable)
            for _ in gathering.add(columns):
                await asyncio.sleep(0)
        made = moves(messages, self._offsets.__getitem__)
        self._offsets.update({move.partition: move.following for move in made})
        return gathering.batch(made)

    async def _save(self, batch: Batch) -> None:
        await self._store.save(batch)
        for move in batch.moves:
            self._mirror.moved(move.partition, move.following)
        self._mirror.changed(batch.days)
        TICKS_STORED.inc(batch.count)
        TICKS_DROPPED.inc(batch.duplicates)

    async def _saved(self) -> None:
        if self._saving is not None:
            saving, self._saving = self._saving, None
            await saving

    async def _abandon(self) -> None:
        """End a save that is under way: whether it was made is asked of the store, like after any failure."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.cancel()
            await asyncio.wait([saving])

    async def _adopt(self, partitions: Collection[int]) -> None:
        if not partitions:
            return
        offsets, days = await self._store.adopt(partitions)
        self._offsets |= offsets
        for partition, offset in offsets.items():
            self._mirror.moved(partition, offset)
        self._days |= {day.key: day for day in days}
        self._mirror.changed([day.copy() for day in days])
        log.info("partitions_adopted", offsets=offsets, days=len(days))

    async def _load(self, wanted: Collection[tuple[str, int]], readable: Readable) -> None:
        """Hold these days: held already, stored, or new in the partition that their ticks came from."""
        missing = {DayKey(*key) for key in wanted} - self._days.keys()
        if not missing:
            return
        # A day that was let go may be in the transaction under way.
        await self._saved()
        found = {day.key: day for day in await self._store.days(missing)}
        partitions = {(t.s, t.d): m.partition for m, t in zip(readable.messages, readable.ticks, strict=True)}
        for key in sorted(missing):
            day = self._days[key] = found.get(key) or Day(key.symbol, key.session, 0)
            day.partition = partitions[key]
        self._let_go({key.symbol for key in missing}, {DayKey(*key) for key in wanted})

    def _let_go(self, symbols: Collection[str], needed: Collection[DayKey]) -> None:
        """Of these symbols hold no more sessions than the latest ones and those needed now."""
        held: dict[str, list[DayKey]] = {}
        for key in self._days:
            if key.symbol in symbols:
                held.setdefault(key.symbol, []).append(key)
        for keys in held.values():
            for key in sorted(keys)[:-SESSIONS_HELD]:
                if key not in needed:
                    del self._days[key]

    def _forget(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._offsets.pop(partition, None)
        for key in [key for key, day in self._days.items() if day.partition in partitions]:
            del self._days[key]


def _parts(messages: Sequence[Message], size: int) -> Iterator[Sequence[Message]]:
    for start in range(0, len(messages), size):
        yield messages[start : start + size]
