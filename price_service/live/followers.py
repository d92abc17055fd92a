"""Who watches which symbols, and what each has not yet been sent. One latest-wins slot per symbol is shared by all."""

from __future__ import annotations

import asyncio
from collections.abc import Collection


class Follower:
    """One client. What it has not taken is a set of its symbols, so however slow it is, it costs no more than that, and
    when it comes back it gets the newest state of each once."""

    def __init__(self, symbols: Collection[str], frames: dict[str, bytes]) -> None:
        self.symbols = frozenset(symbols)
        self.left = False
        self._frames = frames
        self._waiting: set[str] = {symbol for symbol in self.symbols if symbol in frames}
        self._news = asyncio.Event()
        if self._waiting:
            self._news.set()

    def offer(self, changed: Collection[str]) -> None:
        """Some symbols have new frames."""
        if mine := self.symbols.intersection(changed):
            self._waiting |= mine
            self._news.set()

    async def chunk(self) -> bytes:
        """Everything that is new for this client, joined into one write; waits until there is something. Empty once the
        client has left."""
        await self._news.wait()
        if self.left:
            return b""
        self._news.clear()
        waiting, self._waiting = self._waiting, set()
        return b"".join([self._frames[symbol] for symbol in sorted(waiting)])

    def leave(self) -> None:
        self.left = True
        self._news.set()


class Followers:
    """All clients of one hub. `frames` holds the newest frame of each symbol."""

    def __init__(self) -> None:
        self.frames: dict[str, bytes] = {}
        self._all: set[Follower] = set()

    def __len__(self) -> int:
        return len(self._all)

    def join(self, symbols: Collection[str]) -> Follower:
        """A new client: its first chunk is a snapshot of these symbols, then come the changes."""
        follower = Follower(symbols, self.frames)
        self._all.add(follower)
        return follower

    def leave(self, follower: Follower) -> bool:
        """False when it had left before."""
        if follower.left:
            return False
        follower.leave()
        self._all.discard(follower)
        return True

    def publish(self, frames: dict[str, bytes]) -> None:
        """New frames: all clients that follow one of these symbols are told."""
        self.frames.update(frames)
        changed = frames.keys()
        for follower in self._all:
            follower.offer(changed)
