"""The venue's market data onto `prices`, `instruments` and `market-status`, in the bytes that the venue sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
import structlog

from exchange_gateway.feed.books import BooksOut
from exchange_gateway.feed.frames import (
    Books,
    Gap,
    Instruments,
    Status,
    Symbol,
    Ticks,
    frame_of,
    position_of,
    position_text,
)
from exchange_gateway.feed.ticks_out import send_tick
from exchange_gateway.stream import Hole, Taken
from infra.bus import Producer
from infra.contracts import INSTRUMENTS, MARKET_STATUS, Malformed, decode
from infra.outbox import record_headers
from infra.telemetry import FEED_TICKS, FEED_TICKS_MISSING

log = structlog.get_logger(__name__)


class FeedSource(Protocol):
    """Where market data comes from: a socket, or the simulator in the same process."""

    def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        """One connection: what came after tick `after` of `session` (None: from the start of the present session), and
        on. Raises SourceLost."""
        ...


class Feed:
    """A NumberedStream. The position is `session:n`."""

    def __init__(self, source: FeedSource, producer: Producer) -> None:
        self._source = source
        self._producer = producer
        self._books = BooksOut(producer)
        self._last: tuple[int, int] | None = None
        self._first_frame = True
        self._is_holey = False

    def frames(self, position: str | None) -> AsyncIterator[bytes]:
        self._last = None if position is None else position_of(position)
        self._first_frame, self._is_holey = True, False
        session, after = self._last or (None, None)
        return self._source.frames(session, after)

    def take(self, frame: bytes) -> Taken | None:
        try:
            content = frame_of(frame)
        except Malformed as error:
            log.error("feed_frame_unreadable", error=str(error), frame=frame[:200])
            return None
        match content:
            case Ticks():
                return self._ticks(content)
            case Instruments():
                return self._unnumbered(INSTRUMENTS, content.instruments)
            case Status():
                return self._unnumbered(MARKET_STATUS, [content.status])
            case Gap():
                return self._gap(content)
            case Books():
                self._books.send(content.books)
                return None

    def _ticks(self, content: Ticks) -> Taken:
        self._check_joined(content)
        records = [record for tick in content.ticks if (record := send_tick(self._producer, tick)) is not None]
        FEED_TICKS.inc(len(records))
        return self._reached(content.session, content.n, records)

    def _gap(self, content: Gap) -> Taken | None:
        log.error("feed_gap", session=content.session, first=content.first, last=content.last)
        if content.last is None:
            self._last = None
            return None
        return self._reached(content.session, content.last, [])

    def _unnumbered(self, topic: str, items: list[msgspec.Raw]) -> Taken | None:
        """Instruments and statuses come whole on every connect; they wait with the position that holds now. They have
        no number, so their content is their id."""
        records = []
        for raw in items:
            value = bytes(raw)
            try:
                about: Symbol = decode(Symbol, value)
            except Malformed as error:
                log.error("feed_item_unreadable", topic=topic, error=str(error), item=value[:200])
                continue
            digest = hashlib.sha256(value).hexdigest()[:32]
            headers = record_headers(digest, digest, "")
            records.append(self._producer.send(topic, about.symbol.encode(), value, headers))
        return None if self._last is None else Taken(position_text(*self._last), records)

    def _check_joined(self, content: Ticks) -> None:
        """A hole within a connection is asked for again, by connecting anew. In the first ticks of an answer it means
        that the venue's feed has nothing better: this hole and all others of the connection are passed, and said.
        Whoever stores the ticks sees them in the symbols' own numbers and asks for them one by one."""
        first, self._first_frame = self._first_frame, False
        if self._last is None or self._last[0] != content.session:
            return
        missing = content.n - len(content.ticks) - self._last[1]
        if missing <= 0:
            return
        if not (first or self._is_holey):
            raise Hole(f"{missing} ticks are missing after {position_text(*self._last)}")
        self._is_holey = True
        FEED_TICKS_MISSING.inc(missing)
        log.warning("feed_hole_passed", session=content.session, after=self._last[1], missing=missing)

    def _reached(self, session: int, n: int, records: list[asyncio.Future[None]]) -> Taken:
        self._last = (session, n)
        return Taken(position_text(session, n), records)
