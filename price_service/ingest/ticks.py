"""Messages of `prices` become one batch for the store. Pure: no clock, no bus, no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from infra.bus import Message
from infra.contracts import Tick
from infra.dlq.park import Park
from price_service.domain.bars import Bar
from price_service.domain.days import Day, DayKey
from price_service.domain.seen import Seen
from price_service.ingest.sums import bar_parts, day_parts
from price_service.store.columns import Columns, groups
from price_service.store.records import Batch, Move
from price_service.store.wire import fault_of, ticks_of

MALFORMED = "malformed"


class Readable:
    """The ticks among messages, beside the messages that they came in; a verdict for each message that is none."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.parked: list[Park] = []
        found = ticks_of(messages)
        if None in found:
            self.parked = [Park(m, MALFORMED, fault_of(m) or "") for m, t in zip(messages, found, strict=True) if not t]
            messages = [m for m, t in zip(messages, found, strict=True) if t]
            found = [tick for tick in found if tick]
        self.messages, self.ticks = messages, cast("Sequence[Tick]", found)


class Gathering:
    """Adds ticks up, piece by piece, to a batch. The days are changed: after a failure they must be loaded again."""

    def __init__(self, days: Mapping[DayKey, Day]) -> None:
        self._days = days
        self._changed: dict[tuple[str, int], Day] = {}
        self._bars: dict[tuple[str, int], Bar] = {}
        self._batch = Batch()

    def add(self, columns: Columns) -> Iterator[None]:
        """Gives way in between: each step is about a third of the work."""
        new = self._new(columns)
        if not new.all():
            places = np.flatnonzero(new)
            self._batch.duplicates += len(columns) - len(places)
            ticks = [columns.ticks[place] for place in places.tolist()]
            columns = Columns(ticks, columns.received_ms[places].tolist())
            yield
        if not len(columns):
            return
        self._batch.ticks.append(columns)
        for part in day_parts(columns):
            key = (part.symbol, part.session)
            day = self._changed[key] = self._day(key)
            day.merge(part)
        yield
        for bar in bar_parts(columns):
            held = self._bars.setdefault((bar.symbol, bar.bucket_ns), bar)
            if held is not bar:
                held.merge(bar)
        yield

    def batch(self, moves: list[Move]) -> Batch:
        """What to store. Bars are in order of symbol and time, so that two workers lock rows in one order."""
        self._batch.moves = moves
        self._batch.days = [day.copy() for day in self._changed.values()]
        self._batch.bars = [self._bars[key] for key in sorted(self._bars)]
        return self._batch

    def _day(self, key: tuple[str, int]) -> Day:
        return self._days[DayKey(*key)]

    def _new(self, columns: Columns) -> NDArray[np.bool_]:
        """Which of them were not taken before; from now on they were."""
        new = np.ones(len(columns), np.bool_)
        order = np.argsort(columns.day, kind="stable")
        q = columns.q[order]
        steps = np.diff(q)
        for first, last, place in zip(*groups(columns.day[order]), strict=True):
            seen = self._day(columns.days[place]).seen
            in_sequence = bool((steps[first:last] == 1).all())
            if not (in_sequence and seen.add_run(int(q[first]), int(q[last]))):
                new[order[first : last + 1]] = _added(seen, q[first : last + 1].tolist())
        return new


def _added(seen: Seen, numbers: Iterable[int]) -> list[bool]:
    return [seen.add(number) for number in numbers]


def moves(messages: Sequence[Message], offset_of: Callable[[int], int]) -> list[Move]:
    """Each partition's step from where it stood to after the last of these messages, which are in its order."""
    last = {message.partition: message.offset for message in messages}
    return [Move(partition, offset_of(partition), offset + 1) for partition, offset in sorted(last.items())]
