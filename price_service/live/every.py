"""Every tick, not only the newest state: `GET /stockPrices/stream?conflate=false`.

A tick is encoded once, whoever follows its symbol, and waits in a queue of each client. A queue has an end: what a slow
client loses, and what the store no longer has when it resumes, is named in an event `reset`, never left out in silence.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from infra.contracts import Tick
from infra.sse import frame
from price_service.domain.seen import Seen
from price_service.live.hub import Tap
from price_service.live.places import Hole, Place, covered, entry, holes
from price_service.live.tick_frames import tick_json

# Numbers above one that is missing are remembered in so many runs; after that the oldest hole is given up.
RUNS_MAX = 64
CHUNK_BYTES = 64 * 1024
BEYOND = Place(1 << 63, 0)


class Made(NamedTuple):
    """One tick, ready to be sent but for its id."""

    symbol: str
    session: int
    q: int
    event: bytes


def made(tick: Tick, received_ms: int) -> Made:
    return Made(tick.s, tick.d, tick.q, b"event: tick\ndata: " + tick_json(tick, received_ms) + b"\n\n")


class Progress:
    """What a client has got, or was told that it will not get, per symbol; each event has that as its id."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._sessions: dict[str, int] = {}
        self._seen: dict[str, Seen] = {}
        self._entries: dict[str, str] = {}
        self.follow(places)

    @property
    def id(self) -> str:
        return ",".join(self._entries.values())

    @property
    def symbols(self) -> Collection[str]:
        return self._sessions.keys()

    def follow(self, places: Mapping[str, Place]) -> None:
        """These symbols from now on; those that were followed before go on where they are."""
        for symbol in [symbol for symbol in self._sessions if symbol not in places]:
            del self._sessions[symbol], self._seen[symbol], self._entries[symbol]
        for symbol, place in places.items():
            if symbol not in self._sessions:
                self._set(symbol, place.session, Seen(place.q))

    def place(self, symbol: str) -> Place:
        """A symbol that is not followed any more is beyond all that can come."""
        return Place(self._sessions[symbol], self._seen[symbol].contiguous) if symbol in self._seen else BEYOND

    def seen(self, symbol: str) -> Seen:
        """The numbers of the symbol's session that were sent or given up."""
        return self._seen[symbol]

    def tick(self, tick: Made) -> Iterator[bytes]:
        """The event of a tick that is new to this client, after the resets that it brings about."""
        symbol = tick.symbol
        session = self._sessions.get(symbol)
        if session is None or tick.session < session:
            return
        if tick.session > session:
            yield from self.begin(symbol, tick.session)
        seen = self._seen[symbol]
        before = seen.contiguous
        if not seen.add(tick.q):
            return
        if seen.contiguous != before:
            self._set(symbol, tick.session, seen)
        elif len(seen.above) > RUNS_MAX:
            yield from self.missing(symbol, seen.above[0][0] - 1)
        yield b"id: " + self.id.encode() + b"\n" + tick.event

    def begin(self, symbol: str, session: int) -> Iterator[bytes]:
        """A later session: what is missing of the earlier one will not be asked for any more."""
        if symbol not in self._seen:
            return
        yield from self.missing(symbol, self._seen[symbol].newest)
        self._set(symbol, session, Seen())

    def missing(self, symbol: str, last: int, first: int = 1) -> Iterator[bytes]:
        """A reset for each run of numbers in these bounds that was not sent. They do not come any more."""
        for hole in holes(self._seen[symbol], last) if symbol in self._seen else ():
            if hole.last < first:
                continue
            told, session = Hole(max(hole.first, first), hole.last), self._sessions[symbol]
            self._set(symbol, session, covered(self._seen[symbol], told))
            yield reset(symbol, session, told.first, told.last, self.id)

    def _set(self, symbol: str, session: int, seen: Seen) -> None:
        self._sessions[symbol], self._seen[symbol] = session, seen
        self._entries[symbol] = entry(symbol, Place(session, seen.contiguous))


def reset(symbol: str, session: int, first: int, last: int | None, event_id: str) -> bytes:
    """These ticks will not come; `to` is null when nobody knows any more how many there were."""
    said = {"symbol": symbol, "session": session, "from": first, "to": last}
    return frame(msgspec.json.encode(said), event="reset", id=event_id)


class Client:
    """Whoever follows every tick of some symbols. Its queue ends at `ticks_max` ticks or `bytes_max`; then ticks are
    counted as lost until it has taken everything that waits."""

    def __init__(self, progress: Progress, ticks_max: int, bytes_max: int) -> None:
        self.progress = progress
        self._ticks_max = ticks_max
        self._bytes_max = bytes_max
        self._queue: deque[Made] = deque()
        self._bytes = 0
        self._lost: dict[tuple[str, int], Hole] = {}
        self._said: list[bytes] = []
        self._ended = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Ticks that wait."""
        return len(self._queue)

    def offer(self, tick: Made) -> bool:
        """False when the tick is lost."""
        is_full = len(self._queue) >= self._ticks_max or self._bytes + len(tick.event) > self._bytes_max
        if self._lost or is_full:
            key = (tick.symbol, tick.session)
            lost = self._lost.get(key, Hole(tick.q, tick.q))
            self._lost[key] = Hole(min(lost.first, tick.q), max(lost.last, tick.q))
            return False
        self._queue.append(tick)
        self._bytes += len(tick.event)
        self._news.set()
        return True

    def say(self, event: bytes) -> None:
        """An event that is not a tick, before what waits."""
        self._said.append(event)
        self._news.set()

    def end(self, event: bytes) -> None:
        """A last event; nothing comes after it."""
        self.say(event)
        self._ended = True

    def waiting(self) -> Iterator[bytes]:
        """Everything that waits, in writes of about CHUNK_BYTES."""
        self._news.clear()
        chunk, size = self._said, sum(map(len, self._said))
        self._said = []
        while self._queue and not self._ended:
            tick = self._queue.popleft()
            self._bytes -= len(tick.event)
            for event in self.progress.tick(tick):
                chunk.append(event)
                size += len(event)
            if size >= CHUNK_BYTES:
                yield b"".join(chunk)
                chunk, size = [], 0
        chunk += self._resets()
        if chunk:
            yield b"".join(chunk)

    def _resets(self) -> Iterable[bytes]:
        lost, self._lost = self._lost, {}
        for (symbol, session), hole in sorted(lost.items(), key=lambda item: item[0][1]):
            if symbol not in self.progress.symbols or session < self.progress.place(symbol).session:
                continue
            if session > self.progress.place(symbol).session:
                yield from self.progress.begin(symbol, session)
            yield from self.progress.missing(symbol, hole.last, hole.first)

    @property
    def is_ended(self) -> bool:
        return self._ended

    async def due(self) -> None:
        """Until something waits."""
        await self._news.wait()


class Fan:
    """All clients that follow every tick of some symbol, and the one place where such a tick is encoded. A tap of the
    hub: it is asked for the ticks of the symbols that someone follows, and of no others. `lost` counts."""

    def __init__(self, taps: dict[str, set[Tap]], lost: Callable[[], None]) -> None:
        self._taps = taps
        self._lost = lost
        self._clients: dict[str, set[Client]] = {}

    def tick(self, tick: Tick, partition: int, received_ms: int, value: bytes) -> None:
        ready = made(tick, received_ms)
        for client in self._clients.get(tick.s, ()):
            if not client.offer(ready):
                self._lost()

    def clients(self, symbol: str) -> Collection[Client]:
        return self._clients.get(symbol, ())

    def follow(self, client: Client, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            self._clients.setdefault(symbol, set()).add(client)
            self._taps.setdefault(symbol, set()).add(self)

    def leave(self, client: Client, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            clients = self._clients[symbol]
            clients.discard(client)
            if not clients:
                del self._clients[symbol]
                self._taps[symbol].discard(self)
                if not self._taps[symbol]:
                    del self._taps[symbol]
