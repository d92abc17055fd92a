"""A tick: from the moment it is handed to Kafka to the moment an SSE client has parsed the quote that it made."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import httpx
import msgspec

from infra.bus_kafka import KafkaBus
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, MarketStatus, Trade, encode
from tests.bench.figures import paced

SYMBOLS = [f"B{number:03d}" for number in range(100)]
WARM_UP_TICKS = len(SYMBOLS) * 2


class _Quote(msgspec.Struct):
    symbol: str
    volume: int
    time: str | None


async def list_symbols(bus: KafkaBus) -> int:
    """Tell the system what is traded, as a venue does when it opens. Returns the session's number."""
    session = time.time_ns() // 1_000_000_000
    producer = bus.producer()
    await producer.send(MARKET_STATUS, b"*", encode(MarketStatus("open", session, time.time_ns())))
    for symbol in SYMBOLS:
        listed = Instrument(symbol, f"Bench {symbol}", 10_000, 1, session, 100_000_000)
        await producer.send(INSTRUMENTS, symbol.encode(), encode(listed))
    await producer.close()
    return session


async def measure(
    bus: KafkaBus, session: int, api_url: str, token: str, per_second: float, seconds: float
) -> list[float]:
    """Milliseconds per delivered quote. Of two ticks of a symbol within one flush only the newer one is delivered; the
    event time inside the quote says which tick it was."""
    producer = bus.producer()

    async def emit(number: int) -> None:
        symbol, turn = SYMBOLS[number % len(SYMBOLS)], number // len(SYMBOLS) + 1
        tick = Trade(symbol, session, turn, time.time_ns(), 100_000_000 + turn * 10_000, 1)
        producer.send(PRICES, symbol.encode(), encode(tick))

    await paced(per_second, WARM_UP_TICKS / per_second, emit)
    latencies: list[float] = []
    connected = asyncio.Event()
    receiving = asyncio.create_task(_receive(api_url, token, latencies, connected))
    await asyncio.wait_for(connected.wait(), 30)
    latencies.clear()

    async def emit_after_warm_up(number: int) -> None:
        await emit(number + WARM_UP_TICKS)

    await paced(per_second, seconds, emit_after_warm_up)
    await asyncio.sleep(0.5)
    receiving.cancel()
    await producer.close()
    return latencies


async def _receive(api_url: str, token: str, latencies: list[float], connected: asyncio.Event) -> None:
    decoder, seen = msgspec.json.Decoder(_Quote), 0
    client = httpx.AsyncClient(base_url=api_url, headers={"authorization": f"Bearer {token}"}, trust_env=False)
    query = {"symbols": ",".join(SYMBOLS)}
    async with client, await _opened(client, query) as answer:
        rest = b""
        async for chunk in answer.aiter_raw():
            now_ns = time.time_ns()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    quote = decoder.decode(line[6:])
                    seen += 1
                    if quote.time is not None:
                        latencies.append((now_ns - _ns(quote.time)) / 1e6)
            if seen >= len(SYMBOLS):  # the snapshot is through
                connected.set()


async def _opened(client: httpx.AsyncClient, query: dict[str, str]) -> _Streaming:
    """The stream, once the hub knows every symbol."""
    deadline = time.monotonic() + 30
    while True:
        answer = await client.send(client.build_request("GET", "/stockPrices/stream", params=query), stream=True)
        if answer.status_code == 200:
            return _Streaming(answer)
        await answer.aclose()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stream was refused: {answer.status_code}")
        await asyncio.sleep(0.1)


class _Streaming:
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    async def __aenter__(self) -> httpx.Response:
        return self._answer

    async def __aexit__(self, *_: object) -> None:
        await self._answer.aclose()


def _ns(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0"))
