"""The market data feed: what the replay publishes goes to every connected client at the client's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from exchange_gateway.simulator.ring import Reader, Ring
from infra.contracts import Instrument, Tick

FRAMES_PER_TURN = 8


class Feed:
    """The ring, who reads it, and two wake-ups: for readers when frames come, and `moved` for the replay, when a client
    came, went or took frames."""

    def __init__(self, ring: Ring, lag_ticks_max: int) -> None:
        self._ring = ring
        self._readers: set[Reader] = set()
        self._lag_ticks_max = lag_ticks_max
        self._published = asyncio.Event()
        self.moved = asyncio.Event()

    def open(self, session: int, instruments: Sequence[Instrument], at_ns: int) -> None:
        self._ring.open(session, instruments, at_ns)
        self._wake_readers()

    def close(self, at_ns: int) -> None:
        self._ring.close(at_ns)
        self._wake_readers()

    def status(self, kind: Literal["halt", "resume"], symbol: str, at_ns: int) -> None:
        """A symbol is halted or resumed."""
        self._ring.status(kind, symbol, at_ns)
        self._wake_readers()

    def publish(self, ticks: Sequence[Tick]) -> None:
        self._ring.add(ticks)
        self._wake_readers()

    # -- for the replay ------------------------------------------------------------------------------------------------

    @property
    def readers(self) -> int:
        return len(self._readers)

    def has_room(self) -> bool:
        """Whether the slowest client is near enough for more ticks to come without losing it."""
        return all(reader.lag_ticks() <= self._lag_ticks_max for reader in self._readers)

    # -- for clients ---------------------------------------------------------------------------------------------------

    def join(self, session: int | None, after: int | None) -> Reader:
        reader = Reader(self._ring, session, after)
        self._readers.add(reader)
        self.moved.set()
        return reader

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        self.moved.set()

    async def frames(self, reader: Reader) -> list[str]:
        """The next few frames; waits until there is one."""
        while True:
            published = self._published
            frames: list[str] = []
            while len(frames) < FRAMES_PER_TURN and (frame := reader.next()) is not None:
                frames.append(frame)
            if frames:
                self.moved.set()
                return frames
            await published.wait()

    def sessions(self) -> list[dict[str, Any]]:
        return [
            {"session": s.session, "open": s.closed is None, "ticks": s.ticks, "symbols": s.symbols}
            for s in self._ring.sessions.values()
        ]

    def symbols(self) -> dict[str, int]:
        """Last sequence number per symbol of the current session; the replay writes it."""
        assert self._ring.current is not None
        return self._ring.current.symbols

    def _wake_readers(self) -> None:
        self._published.set()
        self._published = asyncio.Event()
