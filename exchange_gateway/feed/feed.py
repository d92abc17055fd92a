"""The venue's market data onto `prices`, `instruments` and `market-status`, in the bytes that the venue sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
import structlog

from exchange_gateway.feed.frames import (
    Gap,
    Instruments,
    Status,
    Symbol,
    TickId,
    Ticks,
    frame_of,
    position_of,
    position_text,
)
from exchange_gateway.stream import Hole, Taken
from infra.bus import Producer
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Malformed, decode
from infra.outbox import record_headers
from infra.telemetry import FEED_TICKS

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
        self._last: tuple[int, int] | None = None
        self._first_frame = True

    def frames(self, position: str | None) -> AsyncIterator[bytes]:
        self._last = None if position is None else position_of(position)
        self._first_frame = True
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

    def _ticks(self, content: Ticks) -> Taken:
        self._check_joined(content)
        records = [record for tick in content.ticks if (record := self._tick(tick)) is not None]
        FEED_TICKS.inc(len(records))
        return self._reached(content.session, content.n, records)

    def _gap(self, content: Gap) -> Taken | None:
        log.error("feed_gap", session=content.session, first=content.first, last=content.last)
        if content.last is None:
            self._last = None
            return None
        return self._reached(content.session, content.last, [])

    def _tick(self, raw: msgspec.Raw) -> asyncio.Future[None] | None:
        value = bytes(raw)
        try:
            tick: TickId = decode(TickId, value)
        except Malformed as error:
            log.error("feed_tick_unreadable", error=str(error), tick=value[:200])
            return None
        identity = f"{tick.s}-{tick.d}-{tick.q}"
        return self._producer.send(PRICES, tick.s.encode(), value, record_headers(identity, identity, ""))

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
        """A hole within a connection is asked for again. In the first ticks of an answer it means that the venue has
        nothing better: it is passed, and said."""
        first, self._first_frame = self._first_frame, False
        if self._last is None or self._last[0] != content.session:
            return
        missing = content.n - len(content.ticks) - self._last[1]
        if missing > 0 and not first:
            raise Hole(f"{missing} ticks are missing after {position_text(*self._last)}")
        if missing > 0:
            log.error("feed_gap", session=content.session, first=self._last[1] + 1, last=self._last[1] + missing)

    def _reached(self, session: int, n: int, records: list[asyncio.Future[None]]) -> Taken:
        self._last = (session, n)
        return Taken(position_text(session, n), records)
