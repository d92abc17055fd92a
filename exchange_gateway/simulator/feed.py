"""The market data feed: what the replay publishes goes to every connected client at the client's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from exchange_gateway.simulator.chaos import Chaos
from exchange_gateway.simulator.depth import Depths
from exchange_gateway.simulator.kept import Resent
from exchange_gateway.simulator.ring import Reader, Ring
from exchange_gateway.simulator.tick_trouble import TickTrouble
from infra.contracts import Instrument, Tick

FRAMES_PER_TURN = 8


class Feed:
    """The ring, who reads it, and two wake-ups: for readers when frames come, and `moved` for the replay, when a client
    came, went or took frames. `depths` is told whose book moved."""

    def __init__(
        self, ring: Ring, lag_ticks_max: int, chaos: Chaos | None = None, depths: Depths | None = None
    ) -> None:
        self._ring = ring
        self._trouble = TickTrouble(chaos) if chaos is not None else None
        self._depths = depths
        self._readers: set[Reader] = set()
        self._lag_ticks_max = lag_ticks_max
        self._published = asyncio.Event()
        self.moved = asyncio.Event()

    def open(self, session: int, instruments: Sequence[Instrument], at_ns: int) -> None:
        self._ring.open(session, instruments, at_ns)
        if self._trouble is not None:
            self._trouble.begin()
        if self._depths is not None:
            self._depths.begin(session, [instrument.symbol for instrument in instruments])
        self._wake_readers()

    def close(self, at_ns: int) -> None:
        self._ring.close(at_ns)
        if self._depths is not None:
            self._depths.all_moved()
        self._wake_readers()

    def status(self, kind: Literal["halt", "resume"], symbol: str, at_ns: int) -> None:
        """A symbol is halted or resumed."""
        self._ring.status(kind, symbol, at_ns)
        if self._depths is not None:
            self._depths.moved((symbol,))
        self._wake_readers()

    def publish(self, ticks: Sequence[Tick]) -> None:
        self._ring.add(ticks, self._trouble.sent(ticks) if self._trouble is not None else None)
        if self._depths is not None and self._depths.is_read:
            self._depths.moved(tick.s for tick in ticks)
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

    def newest(self, symbol: str) -> list[Tick]:
        """The newest trade and the newest quote of a symbol, of the last session in which it had a tick."""
        return self._ring.newest(symbol)

    def resend(self, session: int, symbol: str, first: int, last: int) -> Resent:
        return self._ring.resend(session, symbol, first, last)

    @property
    def session(self) -> int:
        """The present session or the last one; 0 before the first."""
        return self._ring.current.session if self._ring.current else 0

    def symbols(self) -> dict[str, int]:
        """Last sequence number per symbol of the current session; the replay writes it."""
        assert self._ring.current is not None
        return self._ring.current.symbols

    def _wake_readers(self) -> None:
        self._published.set()
        self._published = asyncio.Event()
