"""The api with its price doors on twins, in a process of its own: what is measured is how quotes are answered.

`python -m tests.bench.quote_server PORT SYMBOLS` reads its settings from the environment and takes its quotes from a
tape of two ticks per symbol.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping

from api import app as api_app
from api.settings import ApiSettings
from infra.bus_memory import MemoryBus
from infra.cache_memory import MemoryCache
from infra.clock import NS_PER_S, SystemClock
from infra.contracts import INSTRUMENTS, PRICES, Instrument, Quote, Trade, encode
from infra.process import Service, run
from infra.settings import load
from price_service.app import DoorAdapters, Doors, assemble_doors
from price_service.settings import Settings
from price_service.store.memory import MemoryPrices


@contextlib.asynccontextmanager
async def opened(environ: Mapping[str, str], symbols: list[str], stop: asyncio.Event) -> AsyncIterator[Service]:
    clock = SystemClock()
    bus, cache, store = MemoryBus(clock), MemoryCache(clock), MemoryPrices()
    await _published(bus, symbols, clock.now_ns())
    outside = DoorAdapters(bus=bus, history=store, snapshots=store, cache=cache, clock=clock)
    doors = assemble_doors(load(Settings, environ), outside, stop)

    @contextlib.asynccontextmanager
    async def opener(_: asyncio.Event) -> AsyncIterator[Doors]:
        yield doors

    settings = load(ApiSettings, environ)
    async with api_app.opened(settings, {"prices": opener}, stop, ("prices",), clock, cache) as service:
        yield service


async def _published(bus: MemoryBus, symbols: list[str], now_ns: int) -> None:
    producer, session = bus.producer(), now_ns // NS_PER_S
    for number, symbol in enumerate(symbols):
        key, price = symbol.encode(), 580_250_000 + number * 10_000
        listed = Instrument(symbol, f"{symbol} Incorporated", 10_000, 1, session, 575_000_000)
        await producer.send(INSTRUMENTS, key, encode(listed))
        await producer.send(PRICES, key, encode(Trade(symbol, session, 1, now_ns, price, 100)))
        quote = Quote(symbol, session, 2, now_ns, price - 10_000, 200, price + 10_000, 300)
        await producer.send(PRICES, key, encode(quote))


def main(arguments: list[str]) -> None:
    port, symbols = int(arguments[0]), arguments[1].split(",")
    run(lambda stop: opened(os.environ, symbols, stop), "127.0.0.1", port)


if __name__ == "__main__":
    main(sys.argv[1:])
