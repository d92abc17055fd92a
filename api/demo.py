"""`python -m api.demo`: the whole system in one process, on the twins in memory, without any server.

The services are the same ones that run on real servers; the exchange, the gateway and the api listen on their usual
ports on loopback, so the HTTP surface is the same too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial

import uvloop

from api import app as api_app
from api.auth.tokens import issue, key_of
from api.ops.doors import OpsDoors
from api.roles import DOORS, Door
from api.settings import ApiSettings
from exchange_gateway import app as gateway
from exchange_gateway.settings import Settings as GatewaySettings
from exchange_gateway.simulator import app as simulator
from exchange_gateway.simulator.settings import SimulatorSettings
from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, Clock, Ids, SystemClock, wait
from infra.db import MemoryCheckpoints
from infra.dlq.letters_memory import MemoryLetters
from infra.dlq.replay import LocalTurn, Replay
from infra.principal import Principal
from infra.process import Part, Service, run_parts, run_service, stopped_by_signals
from infra.settings import Infra, SettingsError, load
from infra.switches import MemorySwitches
from infra.telemetry import configure_logging
from order_service import app as orders
from order_service.settings import OrderSettings
from order_service.store.memory import MemoryOrders
from order_service.store.memory_books import MemoryBooks
from order_service.store.memory_watch import MemoryBreaks, MemoryWatch
from outbox_relay import app as relay
from price_service import app as prices
from price_service.settings import Settings as PriceSettings
from price_service.store.memory import MemoryPrices

# A demo never ends: this many records a partition, and the oldest are forgotten.
RECORDS_MAX = 20_000
TOKEN_S = 24 * 3600
LOOK_S = 0.05
QUIET = {"XGW_LOG_LEVEL": "WARNING", "XGW_JOURNAL": "0"}


@dataclass(frozen=True, slots=True)
class Demo:
    """Everything that runs, and the stores behind it."""

    infra: Infra
    bus: MemoryBus
    orders: MemoryOrders
    prices: MemoryPrices
    parts: Mapping[str, Part]
    services: tuple[Service, ...]

    def ready(self) -> bool:
        return all(is_ready() for service in self.services for is_ready in service.ready.values())

    async def run(self, stop: asyncio.Event) -> None:
        await run_parts(self.parts, stop)


@contextlib.asynccontextmanager
async def opened(
    environ: Mapping[str, str], stop: asyncio.Event, records_max: int = RECORDS_MAX
) -> AsyncIterator[Demo]:
    """Every service assembled on one memory bus. `environ` must hold the secrets."""
    clock = SystemClock()
    ids = Ids(clock)
    bus, cache = MemoryBus(clock, retained_max=records_max), MemoryCache(clock)
    order_store, price_store, letters = MemoryOrders(), MemoryPrices(), MemoryLetters(clock)
    infra, order_settings = load(Infra, environ), load(OrderSettings, environ)
    price_settings = load(PriceSettings, environ)
    async with contextlib.AsyncExitStack() as stack:
        venue = await stack.enter_async_context(simulator.opened(load(SimulatorSettings, environ), stop, clock))
        door = await stack.enter_async_context(
            gateway.connected(load(GatewaySettings, environ), bus, MemoryCheckpoints(), clock, ids, parked=letters)
        )
        order_outside = orders.DoorAdapters(
            bus=bus, store=order_store, books=MemoryBooks(order_store, clock), cache=cache, clock=clock, ids=ids
        )
        order_doors = orders.doors(order_settings, order_outside, stop)
        stack.push_async_callback(order_doors.close)
        quotes = prices.quoting(infra)
        stack.push_async_callback(quotes.close)
        price_outside = prices.doors_in_memory(bus, price_store, cache, clock, quotes)
        price_doors = prices.assemble_doors(price_settings, price_outside, stop)
        replay = Replay(letters, bus.producer(), LocalTurn())
        watch, breaks = MemoryWatch(order_store), MemoryBreaks(order_store)
        offered = [orders.OperatorDoors(watch, breaks).routers]
        ops_doors = OpsDoors(letters, replay, MemorySwitches(bus.producer(), clock, ids), offered)
        order_worker = orders.WorkerAdapters(
            bus=bus,
            store=order_store,
            watch=watch,
            books=order_outside.books,
            breaks=breaks,
            letters=letters,
            clock=clock,
            ids=ids,
        )
        doors: dict[Door, api_app.Opener] = {
            "orders": _already_open(order_doors),
            "prices": _already_open(price_doors),
            "ops": _already_open(ops_doors),
        }
        api = await stack.enter_async_context(
            api_app.opened(load(ApiSettings, environ), doors, stop, DOORS, clock, cache)
        )
        resender = prices.resending(infra)
        stack.push_async_callback(resender.close)
        ingest = prices.WorkerAdapters(
            bus=bus, producer=bus.producer(), store=price_store, cache=cache, resender=resender, clock=clock
        )
        workers = [
            relay.in_memory(order_store, bus, clock),
            await orders.worker(order_settings, order_worker),
            prices.assemble(price_settings, ingest),
        ]
        parts = {f"{service.name}.{name}": part for service in workers for name, part in service.parts.items()}
        for service, port in ((venue, infra.venue_port), (door, infra.gateway_port), (api, infra.api_port)):
            parts[service.name] = partial(_served, service, infra.bind_host, port)
        yield Demo(infra, bus, order_store, price_store, parts, (venue, door, api, *workers))


async def _served(service: Service, host: str, port: int, stop: asyncio.Event) -> None:
    await run_service(service, host, port, stop)


def _already_open(doors: api_app.Doors) -> api_app.Opener:
    @contextlib.asynccontextmanager
    async def opener(_: asyncio.Event) -> AsyncIterator[api_app.Doors]:
        yield doors

    return opener


def with_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Secrets of this run alone, unless the caller gave some: nothing of a demo outlives it."""
    made = {
        "XGW_JWT_SECRET": secrets.token_hex(32),
        "XGW_VENUE_API_KEY": secrets.token_urlsafe(24),
        "XGW_WEBHOOK_SECRET": "whsec_" + b64encode(secrets.token_bytes(32)).decode(),
    }
    return QUIET | made | dict(environ)


def token(environ: Mapping[str, str], principal: Principal, clock: Clock) -> str:
    key = key_of(environ["XGW_JWT_SECRET"])
    return issue(key, principal, clock.now_ns() // NS_PER_S, TOKEN_S, Ids(clock).uuid7().hex)


def panel(environ: Mapping[str, str], infra: Infra, clock: Clock) -> str:
    url = f"http://127.0.0.1:{infra.api_port}"
    investor = token(environ, Principal("investor-1", "investor", 1), clock)
    return f"""
The whole system runs in this process, in memory. Ctrl-C ends it; nothing is kept.

  api          {url}   (every route: {url}/docs)
  investor     {investor}
  back office  {token(environ, Principal("back_office", "back_office"), clock)}
  operator     {token(environ, Principal("operator", "operator"), clock)}

Try:
  curl -s '{url}/stockPrices?symbol=AAPL' -H 'Authorization: Bearer {investor}'
  curl -s {url}/orders -H 'Authorization: Bearer {investor}' -H 'Content-Type: application/json' -d '{EXAMPLE}'
  curl -sN '{url}/orders/stream?since=0' -H 'Authorization: Bearer {investor}'
"""


EXAMPLE = '{"orderType":"buy","type":"LIMIT","symbol":"AAPL","quantity":10,"amount":580.25}'


async def _main(environ: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    with stopped_by_signals(stop):
        async with opened(environ, stop) as demo:
            running = asyncio.create_task(demo.run(stop))
            while not (demo.ready() or running.done()):
                await wait(stop, LOOK_S)
            if not running.done():
                sys.stdout.write(panel(environ, demo.infra, SystemClock()))
                sys.stdout.flush()
            await running


def main(environ: Mapping[str, str]) -> int:
    complete = with_secrets(environ)
    try:
        configure_logging("demo", load(Infra, complete).log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(complete))
    except SettingsError as error:
        sys.stderr.write(f"the demo cannot start: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
