"""What is made of the topics `instruments`, `market-status` and `prices`."""

from __future__ import annotations

import json

import pytest

from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import (
    INSTRUMENTS,
    MARKET_STATUS,
    PRICES,
    SWITCHES,
    Instrument,
    MarketStatus,
    Quote,
    Switch,
    Trade,
    encode,
)
from infra.process import background
from infra.switches import Switchboard, Switches
from order_service.domain import risk
from order_service.domain.risk import Listing, Stop
from order_service.placing.market import Market, MarketWatch, Quotes, merged
from tests.flow.walking import eventually
from tests.unit.order_service.makers import NOW_US, quoted


def said(symbol: str, value: bytes | None, topic: str = INSTRUMENTS) -> Message:
    return Message(topic, 0, 0, symbol.encode(), value, (), 0)


def listing(symbol: str, tick: int = 10_000, lot: int = 1) -> Message:
    return said(symbol, encode(Instrument(symbol, "Name", tick, lot, 1, 7)))


def status(kind: str, session: int, symbol: str = "*") -> Message:
    return said(symbol, encode(MarketStatus(kind, session, 0, symbol)), MARKET_STATUS)  # type: ignore[arg-type]


def test_listings_are_merged_and_the_old_ones_stay_as_they_were() -> None:
    first = merged(Market(), [listing("A"), listing("B")])
    second = merged(first, [listing("A", tick=50_000), said("B", None), listing("C", lot=100)])
    assert dict(first.listings) == {"A": Listing("A", 10_000, 1, 7), "B": Listing("B", 10_000, 1, 7)}
    assert dict(second.listings) == {"A": Listing("A", 50_000, 1, 7), "C": Listing("C", 10_000, 100, 7)}


def test_what_cannot_be_read_is_left_out() -> None:
    told = [said("A", b"{"), listing("B", tick=0), listing("C", lot=0), said("*", b"[]", MARKET_STATUS), listing("D")]
    assert dict(merged(Market(), told).listings).keys() == {"D"}


@pytest.mark.parametrize(
    ("told", "is_open", "halted"),
    [
        ([], False, False),
        ([status("open", 5)], True, False),
        ([status("open", 5), status("close", 5)], False, False),
        ([status("open", 6), status("close", 5)], True, False),
        ([status("close", 5), status("open", 5), status("halt", 5, "A")], True, True),
        ([status("open", 5), status("halt", 5, "A"), status("resume", 5, "A")], True, False),
        ([status("halt", 5, "A"), status("open", 6)], True, False),
        ([status("open", 5), status("halt", 5, "B")], True, False),
    ],
)
def test_when_the_market_is_open_and_what_is_halted(told: list[Message], is_open: bool, halted: bool) -> None:
    market = merged(Market(), told)
    assert (market.open, market.halted("A")) == (is_open, halted)


def test_the_strictest_switch_holds() -> None:
    def switch(scope: str, mode: str) -> Message:
        on = Switch(scope=scope, mode=mode, reason="a test", by="op", at_ns=1)  # type: ignore[arg-type]
        return said(scope, encode(on), SWITCHES)

    switches = Switches().merged([switch("global", "reduce_only"), switch("account:2", "cancel_only")])
    market = Market(switches=switches)
    assert market.stop("A", 1) == Stop("reduce_only", "global", "a test")
    assert market.stop("A", 2) == Stop("cancel_only", "account:2", "a test")
    assert Market().stop("A", 1) is None


def test_the_newest_quote_is_kept_and_trades_and_rubbish_change_nothing() -> None:
    quotes = Quotes()
    trade = encode(Trade("AAPL", 1, 2, 1, 999, 1))
    spaced = json.dumps({"k": "Q", "s": "IBM", "d": 1, "q": 1, "t": 1, "b": 3, "bz": 1, "a": 4, "az": 1}).encode()
    quotes.keep(
        [quoted(1, 2), quoted(5, 6, at_us=NOW_US + 1_000), said("AAPL", trade), said("AAPL", b"{"), said("X", None)]
    )
    quotes.keep([said("IBM", spaced), said("BAD", b'{"k":"Q"}')])
    assert quotes.of("AAPL") == risk.Quote(5, 6, NOW_US + 1_000)
    assert quotes.of("AAPL") is quotes.of("AAPL")
    assert quotes.of("IBM") == risk.Quote(3, 4, 0)
    assert [quotes.of(symbol) for symbol in ("BAD", "X", "NONE")] == [None, None, None]


async def test_the_watch_is_ready_when_everything_was_read_and_sees_what_comes_later() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.append(INSTRUMENTS, b"A", encode(Instrument("A", "A", 10_000, 1, 1)), ())
    bus.append(MARKET_STATUS, b"*", encode(MarketStatus("open", 1, 0)), ())
    bus.append(PRICES, b"A", encode(Quote("A", 1, 1, 1, 1, 1, 2, 1)), ())
    switchboard = Switchboard(bus)
    watch = MarketWatch(bus, switchboard, poll_s=0.01)
    assert not watch.view.known

    async def ready() -> bool:
        return watch.ready()

    async def quoted_now() -> bool:
        bus.append(PRICES, b"A", encode(Quote("A", 1, 2, 1, 3, 1, 4, 1)), ())
        return watch.view.quotes.of("A") is not None

    async with background(watch.run), background(switchboard.run), background(watch.follow_quotes):
        await eventually("the watch is ready", ready, 10, 0.001)
        before = watch.view
        assert (before.known, before.open, list(before.listings)) == (True, True, ["A"])
        await eventually("a new quote is seen", quoted_now, 10, 0.001)
        bus.append(MARKET_STATUS, b"*", encode(MarketStatus("close", 1, 1)), ())

        async def closed() -> bool:
            return not watch.view.open

        await eventually("the close is seen", closed, 10, 0.001)
    assert before.open
