"""What the exchange simulator is made of. The only place where its parts are wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from fastapi import FastAPI

from exchange_gateway.simulator import routes
from exchange_gateway.simulator.columns import Tape
from exchange_gateway.simulator.desk import Desk, Notify
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.journal import Journal
from exchange_gateway.simulator.messages import Numbered
from exchange_gateway.simulator.replay import Pace, Replay
from exchange_gateway.simulator.ring import Ring
from exchange_gateway.simulator.settings import SimulatorSettings
from exchange_gateway.simulator.tape import find_tape, recorded, synthetic
from exchange_gateway.simulator.venue import Venue
from exchange_gateway.simulator.webhooks_http import Webhooks, webhook_transport
from infra.clock import Clock, SystemClock
from infra.process import Part, Service

CHECKOUT = Path(__file__).parents[2]


def assemble(
    settings: SimulatorSettings,
    *,
    tape: Tape,
    journal: Journal | None,
    notify: Notify,
    clock: Clock,
    parts: dict[str, Part] | None = None,
) -> Service:
    """The venue from given parts. Reads the journal back, so it may take a moment."""
    venue, drop_copy = Venue(), DropCopy()
    if journal is not None:
        journal.restore(venue, drop_copy)
    desk = Desk(venue, drop_copy, journal, notify, clock)
    feed = Feed(Ring(settings.feed_ring_ticks), settings.feed_ring_ticks // 2)
    replay = Replay(tape, desk, feed, pace(settings), clock)
    replay.prepare()
    app = FastAPI(title="Exchange simulator", description="The venue's API; see docs/venue-api.md.")
    routes.install(app, desk, drop_copy, feed, settings.secrets.venue_api_key)
    return Service(
        name="venue",
        app=app,
        parts={"replay": replay.run, **(parts or {})},
        ready={"session open": replay.is_open},
    )


@contextlib.asynccontextmanager
async def opened(
    settings: SimulatorSettings, stop: asyncio.Event, clock: Clock | None = None
) -> AsyncIterator[Service]:
    """The venue with a real tape, journal and webhooks. `stop` is set when the process is to end."""
    del stop  # every part is given it again when it runs
    used_clock = clock or SystemClock()
    journal = (
        Journal(settings.infra.run_dir / "venue", settings.journal_sessions_kept, settings.journal_age_min_s)
        if settings.journal
        else None
    )
    async with webhook_transport(settings.webhook_concurrency) as transport:
        webhooks = Webhooks(
            transport,
            settings.webhooks_to,
            settings.secrets.webhook_secret,
            used_clock,
            settings.webhook_concurrency,
            settings.webhook_queue_max,
            settings.webhook_give_up_s,
        )
        try:
            yield assemble(
                settings,
                tape=tape_of(settings),
                journal=journal,
                notify=webhooks if settings.webhooks else _no_webhooks,
                clock=used_clock,
                parts={"webhooks": webhooks.run},
            )
        finally:
            if journal is not None:
                journal.close()


def tape_of(settings: SimulatorSettings) -> Tape:
    """The tape that was asked for, or the recorded day if it is on this machine, or a synthetic one."""
    folder = Path(settings.marketdata_dir) if settings.marketdata_dir else CHECKOUT.parent / "shared" / "marketdata"
    path = find_tape(settings.tape, [folder])
    if path is not None:
        return recorded(path, folder / "reference", settings.tape_start, settings.tape_rows)
    rows = settings.tape_synthetic_rows
    return synthetic(settings.tape_symbols, rows, settings.tape_seed, settings.tape_rows)


def pace(settings: SimulatorSettings) -> Pace:
    return Pace(
        speed=settings.speed,
        frame_ticks_max=settings.feed_frame_ticks,
        flush_s=settings.feed_flush_ms / 1000,
        loops=settings.tape_loops,
        session_pause_s=settings.session_pause_s,
        waits_for_client=settings.tape_waits_for_client,
        tape_clock=settings.is_tape_clock,
    )


def _no_webhooks(_: Sequence[Numbered]) -> None:
    """Reports are found in the answers and on the drop copy."""
