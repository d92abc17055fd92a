"""The newest order book of each symbol, and the clients that follow books.

A process reads `depth` itself, from now on: each message is a whole book, so an older one is worth nothing. What a
process that has just started does not know yet comes with the next change of the book.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from infra.bus import Bus, Message, insisting
from infra.clock import NS_PER_MS, Clock
from infra.contracts import DEPTH, Depth
from infra.telemetry import FRAMES
from price_service.domain import text
from price_service.live.followers import Followers, Item

KIND = "books"
MESSAGES_MAX = 2_000
WAIT_S = 0.2
AGE_EVERY_S = 1.0
BEAT_EVERY_S = 15.0
_FRAMES = FRAMES.labels(KIND)


class Book(msgspec.Struct):
    """As it came. `received_ms` is when our house took it from the venue, Unix milliseconds."""

    depth: Depth
    received_ms: int
    stale: bool = False

    @property
    def item(self) -> Item:
        return Item(book_json(self), str(self.received_ms))


def book_json(book: Book) -> bytes:
    """Best level first, prices as exact decimals."""
    depth = book.depth
    return (
        f'{{"symbol":{msgspec.json.encode(depth.s).decode()},"session":{depth.d},"sequence":{depth.n},'
        f'"time":"{text.iso(depth.t)}","receivedAt":"{text.iso_ms(book.received_ms)}",'
        f'"bids":[{_levels(depth.bids)}],"asks":[{_levels(depth.asks)}],"stale":{"true" if book.stale else "false"}}}'
    ).encode()


def _levels(levels: Iterable[tuple[int, int]]) -> str:
    return ",".join([f'{{"price":{text.decimal(price)},"size":{size}}}' for price, size in levels])


class BookTable:
    """The newest book per symbol. Pure."""

    def __init__(self, stale_after_ms: int) -> None:
        self._stale_after_ms = stale_after_ms
        self._books: dict[str, Book] = {}
        self._changed: dict[str, Book] = {}

    def take(self, depth: Depth, received_ms: int) -> None:
        """An older one than is held changes nothing."""
        held = self._books.get(depth.s)
        if held is None or (held.depth.d, held.depth.n) < (depth.d, depth.n):
            self._books[depth.s] = self._changed[depth.s] = Book(depth, received_ms)

    def age(self, now_ms: int) -> None:
        """Within a session a book that is silent for long is marked as stale."""
        for symbol, book in self._books.items():
            if not book.stale and now_ms - book.received_ms > self._stale_after_ms:
                self._books[symbol] = self._changed[symbol] = Book(book.depth, book.received_ms, stale=True)

    def close(self) -> None:
        """The session is over: no order rests in its books. Followers get them empty."""
        for symbol, book in self._books.items():
            empty = msgspec.structs.replace(book.depth, bids=(), asks=())
            self._changed[symbol] = Book(empty, book.received_ms, stale=True)
        self._books.clear()

    def changed(self) -> dict[str, Book]:
        """Since the last call."""
        changed, self._changed = self._changed, {}
        return changed

    def get(self, symbol: str) -> Book | None:
        return self._books.get(symbol)


class Books:
    """`is_open` says whether the market is; it is asked once a second. `flush_ms` as in the hub."""

    def __init__(self, bus: Bus, clock: Clock, is_open: Callable[[], bool], flush_ms: int, stale_after_ms: int) -> None:
        self._news = asyncio.Event()
        self.followers = Followers(clock, self._news.set)
        self.table = BookTable(stale_after_ms)
        self._bus = bus
        self._clock = clock
        self._is_open = is_open
        self._was_open = False
        self._flush_s = flush_ms / 1000
        self._aged_s = self._beaten_s = clock.monotonic_s()
        self._counted = 0
        self._decode = msgspec.json.Decoder(Depth).decode

    async def run(self, stop: asyncio.Event) -> None:
        """Follow `depth` and flush until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_flushing(stop))
            tasks.create_task(insisting(DEPTH, self._follow, stop))
            await stop.wait()
            self._news.set()

    async def _follow(self, stop: asyncio.Event) -> None:
        subscription = await self._bus.read([DEPTH], "latest")
        try:
            while not stop.is_set():
                messages = await subscription.batch(MESSAGES_MAX, WAIT_S)
                for message in messages:
                    self._take(message)
                if messages:
                    self._news.set()
                    await asyncio.sleep(self._flush_s)
        finally:
            await subscription.close()

    def _take(self, message: Message) -> None:
        # What cannot be read is passed over: nothing is stored here, and the next one is whole again.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.table.take(self._decode(message.value or b""), max(message.timestamp_ms, 0))

    async def _keep_flushing(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGE_EVERY_S):
                    await self._news.wait()
            self._news.clear()
            now_s = self._clock.monotonic_s()
            if now_s - self._aged_s >= AGE_EVERY_S:
                self._aged_s = now_s
                self._age()
            self.followers.publish({symbol: book.item for symbol, book in self.table.changed().items()})
            await _in_turns(self.followers.flushing())
            if now_s - self._beaten_s >= BEAT_EVERY_S:
                self._beaten_s = now_s
                await _in_turns(self.followers.beating())
            _FRAMES.inc(self.followers.counts.frames - self._counted)
            self._counted = self.followers.counts.frames
            await asyncio.sleep(self._flush_s)

    def _age(self) -> None:
        is_open = self._is_open()
        if is_open:
            self.table.age(self._clock.now_ns() // NS_PER_MS)
        elif self._was_open:
            self.table.close()
        self._was_open = is_open


async def _in_turns(steps: Iterator[None]) -> None:
    """Give way to the event loop after every step."""
    for _ in steps:
        await asyncio.sleep(0)
