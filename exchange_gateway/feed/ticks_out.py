"""A tick of the venue as a record of `prices`: the same bytes, headers and id, came it by the feed or on request."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from exchange_gateway.feed.frames import TickId
from infra.bus import Producer
from infra.contracts import PRICES, Malformed, decode
from infra.outbox import record_headers

log = structlog.get_logger(__name__)


def send_tick(producer: Producer, raw: msgspec.Raw) -> asyncio.Future[None] | None:
    """None for a tick without identity, which is said and passed. Raises BusError when the producer's queue is full."""
    value = bytes(raw)
    try:
        tick: TickId = decode(TickId, value)
    except Malformed as error:
        log.error("feed_tick_unreadable", error=str(error), tick=value[:200])
        return None
    identity = f"{tick.s}-{tick.d}-{tick.q}"
    return producer.send(PRICES, tick.s.encode(), value, record_headers(identity, identity, ""))
