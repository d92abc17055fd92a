"""The price store in one process's memory: the twin of the PostgreSQL files, for demos and fast tests."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection, Iterable

from infra.contracts import Instrument
from price_service.domain.bars import Bar
from price_service.domain.days import Day, DayKey, Snapshot, newest
from price_service.store.memory_history import MemoryHistory
from price_service.store.records import Batch, Conflict, Received


class MemoryPrices(MemoryHistory):
    """Everything in dictionaries. Of the ticks themselves only the newest `ticks_max` are kept: a demo never ends."""

    def __init__(self, ticks_max: int = 200_000) -> None:
        super().__init__()
        self.ticks: deque[Received] = deque(maxlen=ticks_max)
        self.bars: dict[str, dict[int, Bar]] = {}
        self._offsets: dict[int, int] = {}
        self._days: dict[DayKey, Day] = {}
        self._instruments: dict[str, Instrument] = {}

    async def adopt(self, partitions: Collection[int]) -> Snapshot:
        for partition in partitions:
            self._offsets.setdefault(partition, 0)
        mine = newest(day for day in self._days.values() if day.partition in partitions)
        return Snapshot({p: self._offsets[p] for p in partitions}, copy.deepcopy(mine))

    async def days(self, keys: Collection[DayKey]) -> list[Day]:
        return [copy.deepcopy(self._days[key]) for key in keys if key in self._days]

    async def save(self, batch: Batch) -> None:
        for move in batch.moves:
            if self._offsets.get(move.partition) != move.expected:
                raise Conflict(f"partition {move.partition} is not at {move.expected} any more")
        self._offsets.update({move.partition: move.following for move in batch.moves})
        for columns in batch.ticks:
            self.ticks.extend(map(Received, columns.ticks, columns.received_ms.tolist()))
        for bar in batch.bars:
            minutes = self.bars.setdefault(bar.symbol, {})
            held = minutes.get(bar.bucket_ns)
            if held is None:
                minutes[bar.bucket_ns] = copy.copy(bar)
            else:
                held.merge(bar)
        self._days.update({day.key: copy.deepcopy(day) for day in batch.days})

    async def snapshot(self) -> Snapshot:
        return Snapshot(dict(self._offsets), copy.deepcopy(newest(self._days.values())))

    async def keep(self, instruments: Iterable[Instrument]) -> None:
        for instrument in instruments:
            held = self._instruments.get(instrument.symbol)
            if held is None or held.session <= instrument.session:
                self._instruments[instrument.symbol] = instrument
