"""What the relay's process is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from infra.bus import Bus
from infra.bus_kafka import KafkaBus
from infra.clock import Clock, SystemClock
from infra.db import PgCheckpoints, engine, leased
from infra.process import Part, Service
from outbox_relay.polling_pg import LEASE, Poller
from outbox_relay.relay import Relay
from outbox_relay.settings import RelaySettings
from outbox_relay.source_memory import MemoryReader, Outbox
from outbox_relay.wal_pg import WalReader

NAME = "outbox_relay"


def assemble(relay: Relay, part: Part | None = None) -> Service:
    """The relay as a service; `part` runs it under a lease where its source has none of its own."""
    app = FastAPI(title="outbox relay", docs_url=None, redoc_url=None, openapi_url=None)
    return Service(NAME, app, parts={"relay": part or relay.run}, ready={"streaming": lambda: relay.streaming})


def in_memory(outbox: Outbox, bus: Bus, clock: Clock) -> Service:
    """The relay from a store in this process's memory."""
    return assemble(Relay(bus, MemoryReader(outbox).open, clock))


@contextlib.asynccontextmanager
async def opened(settings: RelaySettings, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The service on PostgreSQL and Kafka. Nothing is connected before its parts run."""
    dsn = settings.infra.dsn(settings.relay_database)
    bus, clock = KafkaBus(settings.infra.bootstrap, NAME), SystemClock()
    if settings.relay_mode == "polling":
        poller = Poller(dsn, settings.relay_poll_ms / 1000)
        relay = Relay(bus, poller.open, clock, settings.relay_unacknowledged_max)
        yield assemble(relay, leased(dsn, LEASE, relay.run))
        return
    source = engine(dsn, NAME, connections_max=1)
    try:
        reader = WalReader(dsn, PgCheckpoints(source), clock, settings.relay_slot)
        yield assemble(Relay(bus, reader.open, clock, settings.relay_unacknowledged_max))
    finally:
        await source.dispose()
