"""The twin of the database's log: the outbox of an order store in this process's memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from infra.outbox import OutboxRow, record_of
from outbox_relay.relay import Entry, Source


class Outbox(Protocol):
    """What the relay needs of a store in memory."""

    def unpublished(self, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        """The rows behind the number `after`, in commit order, numbered from 1."""
        ...

    async def outbox_changed(self) -> None:
        """Until another row is committed."""
        ...


ROWS_MAX = 500


class MemoryReader:
    """How to open a store's outbox. Remembers what was confirmed, as a slot does."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.confirmed = 0

    @contextlib.asynccontextmanager
    async def open(self, stop: asyncio.Event) -> AsyncIterator[Source | None]:
        source = MemorySource(self, self._outbox)
        try:
            yield source
        finally:
            await source.close()


class MemorySource:
    def __init__(self, reader: MemoryReader, outbox: Outbox) -> None:
        self._reader = reader
        self._outbox = outbox
        self._given = reader.confirmed
        self._changing: asyncio.Future[None] | None = None

    async def entries(self, wait_s: float) -> list[Entry]:
        if found := self._outbox.unpublished(self._given, ROWS_MAX):
            return self._next(found)
        if self._changing is None or self._changing.done():
            # Waits from now on; a row that came before it began to wait is seen by the second look.
            self._changing = asyncio.ensure_future(self._outbox.outbox_changed())
            await asyncio.sleep(0)
            if found := self._outbox.unpublished(self._given, ROWS_MAX):
                return self._next(found)
        await asyncio.wait({self._changing}, timeout=wait_s)
        return self._next(self._outbox.unpublished(self._given, ROWS_MAX))

    async def confirm(self, position: int) -> None:
        self._reader.confirmed = max(self._reader.confirmed, position)

    async def close(self) -> None:
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.gather(self._changing, return_exceptions=True)

    def _next(self, found: list[tuple[int, OutboxRow]]) -> list[Entry]:
        if found:
            self._given = found[-1][0]
        return [Entry(record_of(row), number) for number, row in found]
