"""What the relay's process is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

from fastapi import FastAPI

from infra.bus import Bus
from infra.bus_kafka import KafkaBus
from infra.clock import Clock, SystemClock
from infra.db import Checkpoints, PgCheckpoints, engine, leased
from infra.process import Part, Service
from outbox_relay import partitions_pg
from outbox_relay.partitions_pg import Partitions, Plan
from outbox_relay.polling_pg import Poller, lease_of
from outbox_relay.relay import Relay
from outbox_relay.settings import RelaySettings
from outbox_relay.source_memory import MemoryReader, Outbox
from outbox_relay.wal_pg import WalReader

NAME = "outbox_relay"


def assemble(relays: Sequence[Relay], parts: Mapping[str, Part]) -> Service:
    """The relay as a service. It is ready once it streams anything: of two, one waits for the other's end."""
    app = FastAPI(title="outbox relay", docs_url=None, redoc_url=None, openapi_url=None)
    return Service(NAME, app, parts, {"streaming": lambda: any(relay.streaming for relay in relays)})


def in_memory(outbox: Outbox, bus: Bus, clock: Clock) -> Service:
    """The relay from a store in this process's memory."""
    relay = Relay(bus, MemoryReader(outbox).open, clock)
    return assemble([relay], {"relay": relay.run})


@contextlib.asynccontextmanager
async def opened(settings: RelaySettings, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The service on PostgreSQL and Kafka. Nothing is connected before its parts run."""
    dsn = settings.infra.dsn(settings.relay_database)
    source = engine(dsn, NAME, connections_max=2)
    try:
        checkpoints = PgCheckpoints(source)
        relays = _relays(settings, dsn, checkpoints)
        tending = {"partitions": leased(dsn, partitions_pg.LEASE, _partitions(settings, dsn, checkpoints).run)}
        if settings.relay_mode == "cdc":
            yield assemble(relays, {"relay": relays[0].run} | tending)
        else:
            shards = {lease_of(shard): leased(dsn, lease_of(shard), relay.run) for shard, relay in enumerate(relays)}
            yield assemble(relays, shards | tending)
    finally:
        await source.dispose()


def _relays(settings: RelaySettings, dsn: str, checkpoints: Checkpoints) -> list[Relay]:
    """One that reads the log, or one per shard of the table."""
    bus, clock = KafkaBus(settings.infra.bootstrap, NAME), SystemClock()
    if settings.relay_mode == "cdc":
        sources = [WalReader(dsn, checkpoints, clock, settings.relay_slot).open]
    else:
        poll_s, count = settings.relay_poll_ms / 1000, settings.relay_shards
        sources = [Poller(dsn, checkpoints, poll_s, n, count, settings.relay_slot).open for n in range(count)]
    return [Relay(bus, source, clock, settings.relay_unacknowledged_max) for source in sources]


def _partitions(settings: RelaySettings, dsn: str, checkpoints: Checkpoints) -> Partitions:
    length = timedelta(hours=settings.relay_partition_hours)
    plan = Plan(length, settings.relay_partitions_ahead, timedelta(hours=settings.relay_retention_hours))
    return Partitions(dsn, checkpoints, plan, settings.relay_slot, settings.relay_mode == "polling")
