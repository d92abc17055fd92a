"""One day in one world: begin, live, let everything settle, and look."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import structlog
import tenacity

from infra.contracts import ORDER_EVENTS, OrderEvent, decode
from infra.dlq.letters import Filter
from order_service.rebuild.routes import checked
from order_service.store.memory_watch import MemoryWatch
from tests.simulation.faults import Faults
from tests.simulation.invariants import Excuses, Ours, findings, unfinished
from tests.simulation.truth import Truth, truth
from tests.simulation.virtual import VirtualLoop, run
from tests.simulation.workload import Clients, Told, day
from tests.simulation.world import ACCOUNTS, World

ORDERS_PER_S = 5.0
SETTLE_S_MAX = 1200.0
QUOTES_EVERY_S = 1.0
LOOK_S = 6.0
# Long enough for a snapshot that compares what changed last (the grace, its interval), and for what it repairs.
CALM_LOOKS = 5


@dataclass(slots=True)
class Outcome:
    """How one seed ended. `figures` are for people, and say whether the day was worth anything."""

    seed: int
    findings: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


def simulate(seed: int, orders: int, spoil: Callable[[World], None] | None = None) -> Outcome:
    """Live through the day of this seed, in a world that was spoilt first if so wished."""
    random.seed(seed)  # tenacity's jitter

    async def main(loop: VirtualLoop) -> Outcome:
        setattr(tenacity, "time", SimpleNamespace(monotonic=loop.time, sleep=None))  # noqa: B010 - it takes real time
        world = World(seed, loop)
        if spoil is not None:
            spoil(world)
        return await _lived(world, orders)

    return run(main)


def quiet() -> None:
    """Nothing is logged: a bad day has thousands of lines, and this is one of a thousand."""
    logging.disable(logging.CRITICAL)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True
    )


async def _lived(world: World, orders: int) -> Outcome:
    told, length_s = Told(), orders / ORDERS_PER_S
    faults = Faults(world, length_s)
    intents = day(world.random, orders, len(ACCOUNTS), length_s)
    world.tell_session()
    world.tell_quotes()
    world.start()
    moving = asyncio.ensure_future(_moving(world))
    over = asyncio.Event()
    clients = Clients(world, lambda symbol: world.market.micros[symbol], told, over.is_set)
    living = asyncio.ensure_future(clients.live(intents))
    faults.begin()
    await asyncio.sleep(length_s)
    await faults.end()
    settled_s = await _settled(world, living, moving)
    over.set()
    happened = truth(world.venue.read_all())
    found = await _found(world, told, faults, happened)
    if settled_s >= SETTLE_S_MAX:
        found.append(f"settled: not within {SETTLE_S_MAX} s")
    figures = _figures(world, told, faults, happened, settled_s)
    for node in world.nodes.values():
        node.down = True
        node.kill()
    world.bus._logs.clear()  # FastAPI remembers each app's routes for ever, and through them the bus
    return Outcome(world.seed, found, figures)


def _figures(world: World, told: Told, faults: Faults, happened: Truth, settled_s: float) -> dict[str, Any]:
    return {
        "placed": len(told.orders),
        "refused": dict(told.refused),
        "asked_again": told.asked_again,
        "fills": sum(len(one.executions) for known in happened.orders.values() for one in known),
        "kills": sum(node.lives - 1 for node in world.nodes.values()),
        "failures": [text for node in world.nodes.values() for text in node.failures][:5],
        "breaks": len(world.store.breaks),
        "lives": happened.lives,
        "settled_s": settled_s,
        "callbacks": world.loop.callbacks,
    }


async def _moving(world: World) -> None:
    while True:
        await asyncio.sleep(QUOTES_EVERY_S)
        world.market.step()
        world.tell_quotes()


async def _settled(world: World, living: asyncio.Future[None], moving: asyncio.Future[None]) -> float:
    """How long it took until nothing was open any more. The market stands still once the clients are done."""
    began_s, calm = world.loop.time(), 0
    while world.loop.time() - began_s < SETTLE_S_MAX:
        await asyncio.sleep(LOOK_S)
        if living.done():
            moving.cancel()
        calm = calm + 1 if living.done() and _calm(world) else 0
        if calm >= CALM_LOOKS:
            break
    return world.loop.time() - began_s


def _calm(world: World) -> bool:
    published = world.outbox.confirmed == len(world.store.outbox)
    ready = all(node.ready for node in world.nodes.values())
    return ready and published and not unfinished(world.store.orders.values())


async def _found(world: World, told: Told, faults: Faults, happened: Truth) -> list[str]:
    store = world.store
    published = await world.bus.read([ORDER_EVENTS], "earliest")
    ours = Ours(
        told=dict(told.orders),
        orders=store.orders,
        histories=store.histories,
        executions=[one for each in store.executions.values() for one in each],
        ledger=list(store.ledger.values()),
        breaks=list(store.breaks.values()),
        differences=await world.books.differences(),
        rebuilt=[str(one) for one in (await checked(MemoryWatch(store)))["differences"]],
        letters=await world.letters.page(Filter(limit=1000)),
        published=[decode(OrderEvent, message.value) for message in await published.batch(1_000_000, 0.0)],
    )
    struck = faults.struck
    excuses = Excuses(struck.has("wrong_quantity"), struck.has("overfill"), struck.garbage)
    found = findings(ours, happened, excuses)
    found += [f"clients: {text}" for text in (*told.conflicts, *told.errors)]
    return found
