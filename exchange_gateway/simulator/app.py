"""What the exchange simulator is made of. The only place where its parts are wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from exchange_gateway.simulator import routes
from exchange_gateway.simulator.book import Book
from exchange_gateway.simulator.broken import Answering, VenueApp
from exchange_gateway.simulator.chaos import Chaos, scenario
from exchange_gateway.simulator.columns import Tape
from exchange_gateway.simulator.depth import Depths
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.journal import Journal
from exchange_gateway.simulator.messages import Numbered
from exchange_gateway.simulator.replay import TICK_MICROS, Pace, Replay
from exchange_gateway.simulator.ring import Ring
from exchange_gateway.simulator.settings import SimulatorSettings
from exchange_gateway.simulator.tape import find_tape, recorded, synthetic
from exchange_gateway.simulator.trouble import Levers, Trouble
from exchange_gateway.simulator.venue import Venue
from exchange_gateway.simulator.webhooks_http import Webhooks, webhook_transport
from infra.clock import Clock, Ids, SystemClock
from infra.process import Service

CHECKOUT = Path(__file__).parents[2]


def assemble(
    settings: SimulatorSettings,
    *,
    tape: Tape,
    journal: Journal | None,
    webhooks: Webhooks | None,
    chaos: Chaos,
    clock: Clock,
) -> Service:
    """The venue from given parts. Reads the journal back, so it may take a moment."""
    venue, drop_copy = Venue(), DropCopy()
    if journal is not None:
        journal.restore(venue, drop_copy)
    desk = Desk(venue, drop_copy, journal, _no_webhooks, clock)
    depths = Depths(_books(desk), TICK_MICROS, clock)
    feed = Feed(Ring(settings.feed_ring_ticks), settings.feed_ring_ticks // 2, chaos, depths)
    replay = Replay(tape, desk, feed, pace(settings), clock)
    sockets = routes.Sockets()
    levers = _levers(desk, feed, replay, sockets, webhooks, clock)
    trouble = Trouble(chaos, desk, levers, _later, webhooks or _no_webhooks)
    desk.notify = _both(depths, trouble)
    replay.prepare()
    app = VenueApp(title="Exchange simulator", description="The venue's API; see docs/venue-api.md.")
    floor = routes.Floor(
        desk=desk,
        feed=feed,
        answering=Answering(chaos, trouble),
        chaos=chaos,
        chaos_allowed=settings.chaos_allowed,
        sockets=sockets,
        depths=depths,
        depth_flush_s=settings.depth_flush_ms / 1000,
    )
    routes.install(app, floor, settings.secrets.venue_api_key)
    return Service(
        name="venue",
        app=app,
        parts={"replay": replay.run} | ({"webhooks": webhooks.run} if webhooks else {}),
        ready={"session open": replay.is_open},
    )


@contextlib.asynccontextmanager
async def opened(
    settings: SimulatorSettings, stop: asyncio.Event, clock: Clock | None = None
) -> AsyncIterator[Service]:
    """The venue with a real tape, journal and webhooks. `stop` is set when the process is to end."""
    del stop  # every part is given it again when it runs
    used_clock = clock or SystemClock()
    ids = Ids(used_clock, settings.chaos_seed)
    chaos = Chaos(ids.random, used_clock, scenario(settings.scenario))
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
                webhooks=webhooks if settings.webhooks else None,
                chaos=chaos,
                clock=used_clock,
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


def _levers(
    desk: Desk, feed: Feed, replay: Replay, sockets: routes.Sockets, webhooks: Webhooks | None, clock: Clock
) -> Levers:
    """What a misbehaviour moves in this process."""

    def halt(symbol: str) -> None:
        desk.halt(symbol)
        feed.status("halt", symbol, clock.now_ns())

    def resume(symbol: str) -> None:
        if desk.resume(symbol):
            feed.status("resume", symbol, clock.now_ns())

    def disconnect() -> None:
        sockets.cut()
        if webhooks is not None:
            webhooks.disconnect()

    def forget(_: float) -> None:
        replay.begin_anew()
        disconnect()

    return Levers(halt, resume, disconnect, forget)


def _books(desk: Desk) -> Callable[[str], Book]:
    """The books of the desk's venue, which is another one after a loss of memory."""

    def book_of(symbol: str) -> Book:
        return desk.venue.book(symbol)

    return book_of


def _both(depths: Depths, trouble: Trouble) -> Callable[[Sequence[Numbered]], None]:
    """Reports are recorded: the books of their symbols moved, and their webhooks may go."""

    def recorded(reports: Sequence[Numbered]) -> None:
        if depths.is_read:
            depths.moved(each.report.symbol for each in reports if each.report.symbol)
        trouble.recorded(reports)

    return recorded


def _later(seconds: float, act: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


def _no_webhooks(_: object) -> None:
    """Reports are found in the answers and on the drop copy."""
