"""The journal's twin in memory: the same lines, restored by the same fold, for a venue without a disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.journal import Line, Restored, restore_line
from exchange_gateway.simulator.journal_reader import Recorded, recorded
from exchange_gateway.simulator.venue import Venue


class MemoryJournal:
    """Keeps everything. Survives the venue that writes it, as a folder survives its process."""

    def __init__(self) -> None:
        self._forgotten: list[list[bytes]] = []
        self._lines: list[bytes] = []
        self._session = 0

    def append(self, lines: Sequence[bytes]) -> None:
        self._lines.extend(lines)

    def rotate(self, venue: Venue, session: int, now_ns: int) -> int:
        del venue, now_ns  # nothing is dropped, so nothing is carried over
        self._session = session
        return 0

    def move_aside(self, session: int) -> None:
        self._session = session
        self._forgotten.append(self._lines)
        self._lines = []

    def restore(self, venue: Venue, drop_copy: DropCopy) -> None:
        found = Restored(session=self._session)
        for raw in self._lines:
            restore_line(msgspec.json.decode(raw, type=Line), venue, drop_copy, found)
        venue.settle(found.session, found.last_n, found.last_number)

    def read_all(self) -> Iterator[Recorded]:
        """As `journal_reader.read_all` of a folder."""
        for life in (*self._forgotten, self._lines):
            yield from recorded(life)
