"""GET /stockPrices/stream: quotes as server-sent events. The current ones first, then every change, conflated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Header, Query, Response

from infra.clock import Ids
from infra.principal import Principal, on_streams
from infra.sse import FAREWELL
from infra.telemetry import STREAMS
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbols_of
from price_service.live.hub import KIND, Hub
from price_service.live.lanes import Joinable
from price_service.live.sse import Stream, StreamResponse
from price_service.live.traded import Traded

# How long a client may take for the last event before the process ends without it.
FAREWELL_S = 1.0
FAREWELL_LOOKS = 20
ID_DIGITS_MAX = 18


class StreamRegistry(Protocol):
    """Who wants to know of the streams of this process: to limit, change and end them."""

    def new_id(self) -> str: ...

    def opened(self, stream: Stream) -> None:
        """Before the first byte of the answer. Raises Refusal when it must not be."""
        ...

    def closed(self, stream: Stream) -> None:
        """Once, after `opened` went well, however the stream ended."""
        ...


class EveryTick(Protocol):
    """The streams with `conflate=false`."""

    async def response(self, asker: Principal, symbols: list[str], last_event_id: str | None) -> Response:
        """The answer. `symbols` are known and each named once. Raises Refusal."""
        ...


class NoRegistry:
    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def new_id(self) -> str:
        return self._ids.uuid7().hex

    def opened(self, stream: Stream) -> None:
        pass

    def closed(self, stream: Stream) -> None:
        pass


class Streams:
    """The conflated streams of this process. `stop` ends them when the process does."""

    def __init__(
        self,
        hub: Hub,
        symbols_max: int,
        ids: Ids,
        stop: asyncio.Event,
        registry: StreamRegistry | None = None,
        followers: Joinable | None = None,
        kind: str = KIND,
    ) -> None:
        """`followers`: of something else than the hub's quotes, by the same symbols."""
        self.followers = hub.followers if followers is None else followers
        self._hub = hub
        self._traded = Traded(hub)
        self._symbols_max = symbols_max
        self._stop = stop
        self._registry = NoRegistry(ids) if registry is None else registry
        self._open: set[Stream] = set()
        self._gauge = STREAMS.labels(kind)

    def open(self, asker: Principal, symbols: list[str], last_event_id: str | None = None) -> Response:
        """The answer that streams these known symbols. Raises Refusal."""
        since_ms = _since_ms(last_event_id)
        opened = Stream(self._registry.new_id(), asker, symbols, self.followers, since_ms, self._closed)
        self._registry.opened(opened)
        self._open.add(opened)
        self._gauge.inc()
        return StreamResponse(opened, self._stop)

    def known(self, symbols: str | None) -> list[str]:
        """What a request may follow, each once. Raises Refusal."""
        return self._traded.known(symbols_of(symbols or "", "symbols", self._symbols_max), "symbols")

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for `stop`, then tell the clients; one that does not take it in time is cut off."""
        await stop.wait()
        # sse-starlette's way has its own end.
        told = [stream for stream in self._open if stream.is_direct]
        for stream in told:
            stream.end(FAREWELL)
        for _ in range(FAREWELL_LOOKS):
            if not any(stream.unsent() for stream in told):
                return
            await asyncio.sleep(FAREWELL_S / FAREWELL_LOOKS)
        for stream in told:
            stream.abort()

    def _closed(self, stream: Stream) -> None:
        self._open.discard(stream)
        self._gauge.dec()
        self._registry.closed(stream)


def routes(streams: Streams, principal: Callable[..., Any], every: EveryTick | None = None) -> APIRouter:
    router = APIRouter(tags=["prices"])

    @router.get(
        "/stockPrices/stream",
        summary="Follow quotes as server-sent events: the current ones first, then every change.",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def stream(
        asker: Principal = Depends(on_streams(principal)),
        symbols: Annotated[str | None, Query(description="Symbols to follow, separated by commas.")] = None,
        conflate: Annotated[bool, Query(description="false: every tick instead of the newest state.")] = True,
        last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
        since: Annotated[str | None, Query(description="The same, where no header can be sent.")] = None,
    ) -> Response:
        """The first event, `stream`, names the stream and its symbols. Each other event is the newest quote of one
        symbol; its id is the receive time in Unix milliseconds, and with it as `Last-Event-ID` a new stream begins with
        what has changed since. A client that reads slowly gets newer values, never a queue. The last event is `closing`
        when the process ends."""
        wanted, last_event_id = streams.known(symbols), last_event_id or since
        if not conflate and every is not None:
            return await every.response(asker, wanted, last_event_id)
        return streams.open(asker, wanted, last_event_id)

    return router


def _since_ms(last_event_id: str | None) -> int | None:
    if not last_event_id:
        return None
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= ID_DIGITS_MAX):
        shown = last_event_id[:ID_DIGITS_MAX]
        raise refusal(reasons.LAST_EVENT_ID_INVALID, "Last-Event-ID", id=shown)
    return int(last_event_id)
