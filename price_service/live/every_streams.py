"""The streams of every tick that are open in this process, as answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from dataclasses import dataclass

import msgspec
from fastapi import Response

from infra.clock import Clock
from infra.principal import Principal
from infra.sse import frame, stream
from infra.telemetry import FRAMES, STREAMS, TICKS_LOST
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.seen import Seen
from price_service.live.every import Client, Fan, Progress
from price_service.live.hub import Hub
from price_service.live.open_streams import OpenStreams
from price_service.live.patience import ASK_AFTER_S, Patience
from price_service.live.places import Place, places_of
from price_service.live.resume import Resume

KIND = "ticks"
# How often a stream with a hole is looked at while no tick comes.
LOOK_S = 1.0
_FRAMES = FRAMES.labels(KIND)
_STREAMS = STREAMS.labels(KIND)
_END_OF_EVENT = b"\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one stream: its symbols, and what may wait in its queue."""

    symbols_max: int
    queue_ticks_max: int
    queue_bytes_max: int


class EveryStream:
    """One of them. It follows from its making on; what comes before its answer is written waits in its queue."""

    def __init__(
        self, streams: EveryStreams, stream_id: str, principal: Principal, symbols: list[str], after: dict[str, Place]
    ) -> None:
        self.id = stream_id
        self.principal = principal
        self._streams = streams
        self._after = after
        # Copied in the same step in which the client joins: what is applied later is in its queue.
        self._applied = {symbol: streams.applied(symbol) for symbol in after}
        now = {symbol: streams.now(symbol) for symbol in symbols if symbol not in after}
        limits = streams.limits
        progress = Progress({symbol: after.get(symbol) or now[symbol] for symbol in symbols})
        self._client = Client(progress, limits.queue_ticks_max, limits.queue_bytes_max)
        self._patience = Patience(streams.ask_after_s)
        self._is_open = True
        streams.fan.follow(self._client, symbols)

    @property
    def symbols(self) -> Collection[str]:
        return self._client.progress.symbols

    def change(self, symbols: Collection[str]) -> None:
        """New symbols begin now; the others go on where they are."""
        if len(symbols) > self._streams.limits.symbols_max:
            raise refusal(reasons.SYMBOLS_TOO_MANY, "symbols", max=self._streams.limits.symbols_max)
        held = set(self.symbols)
        self._streams.fan.leave(self._client, held.difference(symbols))
        self._streams.fan.follow(self._client, set(symbols) - held)
        self._client.progress.follow({symbol: self._streams.now(symbol) for symbol in symbols})
        self._client.say(self._named())

    def end(self, event: bytes) -> None:
        self._client.end(event)

    def left(self) -> None:
        if self._is_open:
            self._is_open = False
            self._streams.fan.leave(self._client, self.symbols)
            self._streams.left(self)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        client = self._client
        try:
            yield self._named()
            async for chunk in self._missed():
                yield chunk
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S if self._patience else None):
                        await client.due()
                is_last = client.is_ended
                for chunk in client.waiting():
                    yield _counted(chunk)
                if is_last:
                    return
                async for chunk in self._filled():
                    yield chunk
        finally:
            self.left()

    async def _missed(self) -> AsyncIterator[bytes]:
        """What came between the id that the client sent and its joining."""
        for symbol, (session, applied) in self._applied.items():
            async for chunk in self._streams.resume.after(self._client.progress, symbol, session, applied):
                if chunk:
                    yield _counted(chunk)
                if self._client.is_ended:
                    return

    async def _filled(self) -> AsyncIterator[bytes]:
        """What has been missing for long."""
        progress, streams = self._client.progress, self._streams
        for symbol, is_given_up in self._patience.due(progress, streams.clock.monotonic_s()):
            async for chunk in streams.resume.after(progress, symbol, *streams.applied(symbol)):
                if chunk:
                    yield _counted(chunk)
            if is_given_up and symbol in progress.symbols:
                for reset in progress.missing(symbol, progress.seen(symbol).newest):
                    yield _counted(reset)

    def _named(self) -> bytes:
        said = {"id": self.id, "symbols": list(self.symbols)}
        return frame(msgspec.json.encode(said), event="stream", id=self._client.progress.id)


def _counted(chunk: bytes) -> bytes:
    _FRAMES.inc(chunk.count(_END_OF_EVENT))
    return chunk


class EveryStreams:
    """`stop` ends them when the process does."""

    def __init__(
        self,
        hub: Hub,
        registry: OpenStreams,
        resume: Resume,
        limits: Limits,
        clock: Clock,
        stop: asyncio.Event,
        ask_after_s: tuple[float, ...] = ASK_AFTER_S,
    ) -> None:
        self.fan = Fan(hub.taps, TICKS_LOST.inc)
        self.resume = resume
        self.limits = limits
        self.clock = clock
        self.ask_after_s = ask_after_s
        self._hub = hub
        self._registry = registry
        self._stop = stop

    async def response(self, asker: Principal, symbols: list[str], last_event_id: str | None) -> Response:
        """The answer that streams every tick of these known symbols, after `last_event_id` or from now on. Raises
        Refusal."""
        if len(symbols) > self.limits.symbols_max:
            raise refusal(reasons.SYMBOLS_TOO_MANY, "symbols", max=self.limits.symbols_max)
        after = places_of(last_event_id, symbols) if last_event_id else {}
        opened = EveryStream(self, self._registry.new_id(), asker, symbols, after)
        _STREAMS.inc()
        try:
            self._registry.opened(opened)
        except BaseException:
            opened.left()
            raise
        return stream(opened.frames(), self._stop, opened.left)

    def applied(self, symbol: str) -> tuple[int, Seen]:
        """The session of a symbol, and the numbers in it that the hub has taken: a copy."""
        session, seen = self._hub.table.seen(symbol)
        return session, Seen(seen.contiguous, list(seen.above))

    def now(self, symbol: str) -> Place:
        """Where a client is that wants what comes from now on."""
        session, seen = self._hub.table.seen(symbol)
        return Place(session, seen.newest)

    def left(self, opened: EveryStream) -> None:
        _STREAMS.dec()
        self._registry.closed(opened)
