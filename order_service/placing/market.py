"""What is known of the market: what is traded, whether it is open, the newest quotes, and which kill switches are on.

Each deciding process reads the topics itself and keeps them in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import msgspec
import structlog

from infra import contracts
from infra.bus import Bus, Message, insisting, next_offsets
from infra.contracts import INSTRUMENTS, MARKET_STATUS, PRICES, Instrument, Malformed, MarketStatus, Tick, decode
from infra.switches import Switchboard, Switches
from order_service.domain.risk import Listing, Quote, Stop

log = structlog.get_logger(__name__)
MESSAGES_MAX = 1_000
TICKS_MAX = 5_000
WHOLE_MARKET = "*"
_tick = msgspec.json.Decoder(Tick)


class Quotes:
    """The newest quote of each symbol. Ticks come all day and most are never asked for, so a quote stays bytes until a
    decision needs it. Deciding awaits nothing, so each decision sees one state."""

    def __init__(self) -> None:
        self._newest: dict[bytes, Message] = {}
        self._decoded: dict[bytes, tuple[Message, Quote]] = {}

    def keep(self, messages: Iterable[Message]) -> None:
        for message in messages:
            value, key = message.value, message.key
            # The feed writes the kind like this; one that is written otherwise is told by decoding it.
            if value is None or key is None or b'"k":"T"' in value:
                continue
            if b'"k":"Q"' in value or _quote_in(message) is not None:
                self._newest[key] = message

    def of(self, symbol: str) -> Quote | None:
        key = symbol.encode()
        message = self._newest.get(key)
        if message is None:
            return None
        known = self._decoded.get(key)
        if known is None or known[0] is not message:
            quote = _quote_in(message)
            if quote is None:
                del self._newest[key]
                return None
            known = self._decoded[key] = (message, quote)
        return known[1]


@dataclass(frozen=True, slots=True)
class Market:
    """One state of the market. `session` is the last one that was heard of, 0 before any, and `open` whether it is;
    `halts` has each halted symbol with the session in which it was halted: the next one begins without. `known` says
    whether all of it was read."""

    listings: Mapping[str, Listing] = field(default_factory=lambda: MappingProxyType({}))
    session: int = 0
    open: bool = False
    halts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    switches: Switches = field(default_factory=Switches)
    quotes: Quotes = field(default_factory=Quotes)
    known: bool = False

    def halted(self, symbol: str) -> bool:
        return self.halts.get(symbol, -1) >= self.session

    def stop(self, symbol: str, account_id: int) -> Stop | None:
        if not self.switches.on:
            return None
        switch = self.switches.strictest(symbol, account_id)
        return None if switch is None else Stop(switch.mode, switch.scope, switch.reason)


class MarketWatch:
    """`view` is what a batch decides on. Nobody should decide before `ready`."""

    def __init__(self, bus: Bus, switchboard: Switchboard, poll_s: float = 0.5) -> None:
        self._bus = bus
        self._switchboard = switchboard
        self._poll_s = poll_s
        self._market = Market()

    @property
    def view(self) -> Market:
        """Never changed, but for the newest quotes that come into it."""
        return replace(self._market, switches=self._switchboard.view, known=self.ready())

    def ready(self) -> bool:
        """Symbols, session and switches were read to the end that they had when the reading began."""
        return bool(self._market.listings) and self._switchboard.ready()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow what is listed and open until `stop`, on what is known while the bus is away."""
        await insisting(MARKET_STATUS, self._follow_market, stop)

    async def follow_quotes(self, stop: asyncio.Event) -> None:
        """Follow `prices` until `stop`. What was quoted before the start is not waited for: it comes with the ticks."""
        await insisting(PRICES, self._follow_quotes, stop)

    async def _follow_market(self, stop: asyncio.Event) -> None:
        topics = [INSTRUMENTS, MARKET_STATUS]
        ends = dict(await self._bus.ends(topics))
        subscription = await self._bus.read(topics, "earliest")
        try:
            # The past is shown only when it has become the present.
            market = Market(quotes=self._market.quotes)
            while not stop.is_set():
                messages = await subscription.batch(MESSAGES_MAX, self._poll_s)
                seen = next_offsets(messages)
                ends = {place: end for place, end in ends.items() if seen.get(place, 0) < end}
                market = merged(market, messages)
                if not ends:
                    self._market = market
        finally:
            await subscription.close()

    async def _follow_quotes(self, stop: asyncio.Event) -> None:
        subscription = await self._bus.read([PRICES], "latest")
        try:
            while not stop.is_set():
                self._market.quotes.keep(await subscription.batch(TICKS_MAX, self._poll_s))
        finally:
            await subscription.close()


def merged(market: Market, messages: Iterable[Message]) -> Market:
    """The market after these messages. What cannot be read is logged and left out: every process reads these topics
    itself, so none of them owns their dead letters."""
    listings, halts, session, open_ = dict(market.listings), dict(market.halts), market.session, market.open
    for message in messages:
        try:
            if message.topic == INSTRUMENTS:
                _list(listings, message)
            elif message.value is not None:
                status: MarketStatus = decode(MarketStatus, message.value)
                if status.symbol != WHOLE_MARKET:
                    _halt(halts, status)
                elif status.session >= session:  # else late word of an earlier session
                    session, open_ = status.session, status.kind == "open"
        except Malformed as error:
            log.error("market_message_malformed", topic=message.topic, offset=message.offset, error=str(error))
    return replace(
        market, listings=MappingProxyType(listings), halts=MappingProxyType(halts), session=session, open=open_
    )


def _list(listings: dict[str, Listing], message: Message) -> None:
    """An empty value delists."""
    if message.value is None:
        listings.pop((message.key or b"").decode(errors="replace"), None)
        return
    found: Instrument = decode(Instrument, message.value)
    if found.tick_micros < 1 or found.lot < 1:
        raise Malformed(f"{found.symbol} has no tick or no lot")
    listings[found.symbol] = Listing(found.symbol, found.tick_micros, found.lot, found.previous_close_micros)


def _halt(halts: dict[str, int], status: MarketStatus) -> None:
    if status.kind == "halt":
        halts[status.symbol] = status.session
    elif status.kind == "resume":
        halts.pop(status.symbol, None)


def _quote_in(message: Message) -> Quote | None:
    """None for a trade, and for what cannot be read: the ingest parks that."""
    try:
        tick = _tick.decode(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Quote(tick.b, tick.a, message.timestamp_ms * 1000) if isinstance(tick, contracts.Quote) else None
