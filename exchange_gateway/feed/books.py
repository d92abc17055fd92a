"""The venue's books onto `depth`. Each is whole, so that any may be lost: they wait for nothing and hold up no tick."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from exchange_gateway.feed.frames import BookId
from infra.bus import BusError, Producer
from infra.contracts import DEPTH, Malformed, decode
from infra.outbox import record_headers
from infra.telemetry import FEED_BOOKS

log = structlog.get_logger(__name__)

# Far below what the producer's queue holds, so that books never take the ticks' place in it.
IN_FLIGHT_MAX = 5_000


class BooksOut:
    """Drops books while too many are unacknowledged."""

    def __init__(self, producer: Producer, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._producer = producer
        self._in_flight_max = in_flight_max
        self._in_flight = 0

    def send(self, books: Iterable[msgspec.Raw]) -> None:
        for raw in books:
            value = bytes(raw)
            try:
                book: BookId = decode(BookId, value)
            except Malformed as error:
                log.error("feed_book_unreadable", error=str(error), book=value[:200])
                continue
            self._send(book, value)

    def _send(self, book: BookId, value: bytes) -> None:
        if self._in_flight >= self._in_flight_max:
            FEED_BOOKS.labels("dropped").inc()
            return
        identity = f"{book.s}-{book.d}-b{book.n}"
        try:
            sent = self._producer.send(DEPTH, book.s.encode(), value, record_headers(identity, identity, ""))
        except BusError:
            FEED_BOOKS.labels("dropped").inc()
            return
        self._in_flight += 1
        sent.add_done_callback(self._settled)

    def _settled(self, sent: asyncio.Future[None]) -> None:
        self._in_flight -= 1
        failed = sent.cancelled() or sent.exception() is not None
        FEED_BOOKS.labels("failed" if failed else "sent").inc()
