"""Days, listings, text: the pure part that ingest and hub share."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from infra.contracts import Instrument, MarketStatus
from infra.refusal import Refusal
from price_service.domain import reasons, text
from price_service.domain.conditions import FORM_T, ODD_LOT, OUTSIDE_HOURS, sets_prices
from price_service.domain.days import Day, newest
from price_service.domain.listings import Listings
from price_service.domain.points import Point
from price_service.domain.symbols import symbol_of, symbols_of
from tests.unit.price_service.made import RECEIVED_MS, SESSION, quote, trade


@pytest.mark.parametrize("cond", [FORM_T, OUTSIDE_HOURS, ODD_LOT, FORM_T | 1, 0xFFFF_FFFF])
def test_trades_outside_the_regular_session_and_odd_lots_set_no_prices(cond: int) -> None:
    assert not sets_prices(cond)


@pytest.mark.parametrize("cond", [0, 1, 0x20, 0x40, 0x80])
def test_regular_sweep_opening_and_closing_prints_set_prices(cond: int) -> None:
    assert sets_prices(cond)


def day_of(*ticks: object) -> Day:
    day = Day("AAPL", SESSION, 0)
    for tick in ticks:
        day.apply(tick, RECEIVED_MS)  # type: ignore[arg-type]
    return day


def test_a_day_follows_the_condition_rule() -> None:
    day = day_of(trade(1, 5, 10, FORM_T), trade(2, 7, 20), trade(3, 6, 30), trade(4, 99, 1, ODD_LOT))
    assert (day.open, day.high, day.low, day.volume) == (7, 7, 6, 61)
    assert day.last == (6, 30)


def test_before_the_first_regular_trade_the_last_print_is_the_price() -> None:
    assert day_of(trade(2, 8, 3, FORM_T), trade(1, 5, 1, FORM_T)).last == (8, 3)
    assert day_of().last == (0, 0)


def test_a_late_tick_counts_but_does_not_turn_the_quote_back() -> None:
    day = day_of(quote(5, bid=50), trade(4, 40), quote(3, bid=30), trade(2, 20), trade(1, 10))
    assert (day.bid, day.last[0], day.open, day.volume) == (50, 40, 10, 300)
    assert day.time_ns == quote(5).t
    assert day.seen.contiguous == 5


def test_a_repeated_tick_is_not_counted_again() -> None:
    day = day_of(trade(1))
    assert not day.apply(trade(1), RECEIVED_MS)
    assert day.volume == 100


def test_the_newest_day_of_each_symbol() -> None:
    days = [Day("A", 1, 0), Day("A", 3, 0), Day("A", 2, 0), Day("B", 1, 0)]
    assert [(d.symbol, d.session) for d in newest(days)] == [("A", 3), ("B", 1)]


def test_a_previous_close_belongs_to_its_session() -> None:
    listings = Listings()
    assert listings.keep(Instrument("A", "Alpha", 10_000, 1, 5, 7))
    assert not listings.keep(Instrument("A", "Older", 10_000, 1, 4, 6))
    assert listings.previous_close("A", 5) == 7
    assert listings.keep(Instrument("A", "Alpha", 10_000, 1, 6, 9))
    assert [listings.previous_close("A", session) for session in (5, 6, 7)] == [7, 9, 0]
    assert listings.keep(Instrument("A", "Alpha", 10_000, 1, 7, 8))
    assert [listings.previous_close("A", session) for session in (5, 6, 7)] == [0, 9, 8]
    assert listings.previous_close("B", 5) == 0


def test_a_session_is_open_from_its_open_to_its_close() -> None:
    listings = Listings()
    for status, opened in (
        (MarketStatus("open", 5, 0), 5),
        (MarketStatus("halt", 5, 1, "A"), 5),
        (MarketStatus("close", 4, 2), 5),
        (MarketStatus("close", 5, 3), None),
        (MarketStatus("open", 5, 3, "A"), None),
    ):
        listings.status(status)
        assert listings.open_session == opened


@pytest.mark.parametrize(
    ("micros", "words"),
    [
        (580_250_000, "580.25"),
        (580_000_000, "580.00"),
        (1, "0.000001"),
        (10_000, "0.01"),
        (13_675_000, "13.675"),
        (-500_000, "-0.50"),
        (0, "0.00"),
        (9_007_199_254_740_993_000_000, "9007199254740993.00"),
    ],
)
def test_micros_as_exact_decimals(micros: int, words: str) -> None:
    assert text.decimal(micros) == words
    assert json.loads(words, parse_float=Decimal) == Decimal(micros) / 1_000_000


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(1, 3, "33.3333"), (2, 3, "66.6667"), (-1, 3, "-33.3333"), (0, 7, "0.0000"), (1, 2_000_000, "0.0001")],
)
def test_percent(part: int, whole: int, words: str) -> None:
    assert text.percent(part, whole) == words


def test_times() -> None:
    assert text.iso(1_381_239_000_123_456_789) == "2013-10-08T13:30:00.123456789Z"
    assert text.iso_ms(1_381_239_000_007) == "2013-10-08T13:30:00.007Z"
    assert text.iso_seconds(1_381_239_000_000_000_000) == "2013-10-08T13:30:00Z"


def test_vwap_is_rounded_half_up_to_a_micro() -> None:
    assert Point(0, None, None, None, None, 2, 2, 5).vwap_micros == 3
    assert Point(0, None, None, None, None, 0, 0, 0).vwap_micros is None


def test_symbols_are_read_in_capitals_and_once() -> None:
    assert symbol_of(" brk.b ", "symbol") == "BRK.B"
    assert symbols_of("spy,AAPL,Spy", "symbols", 3) == ["SPY", "AAPL"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("", "symbols_missing"),
        ("  ", "symbols_missing"),
        ("A,,B", "invalid_symbol"),
        ("A,1B", "invalid_symbol"),
        ("A" * 17, "invalid_symbol"),
        ("AÄ", "invalid_symbol"),
        ("A\n", None),
        ("A;DROP", "invalid_symbol"),
        ("A,B,C,D", "too_many_symbols"),
        ("A" * 1_000_000, "too_many_symbols"),
        (",".join(["A"] * 1_000_000), "too_many_symbols"),
    ],
)
def test_what_cannot_be_symbols_is_refused_and_not_repeated_at_length(raw: str, code: str | None) -> None:
    if code is None:
        assert symbols_of(raw, "symbols", 3) == ["A"]
        return
    with pytest.raises(Refusal) as caught:
        symbols_of(raw, "symbols", 3)
    assert (caught.value.code, caught.value.field) == (code, "symbols")
    assert len(caught.value.text) < 120


def test_every_reason_has_a_code_a_sentence_and_a_way_out() -> None:
    assert len(reasons.CODES) >= 10
    for code, reason in reasons.CODES.items():
        assert code == reason.code == code.lower()
        assert reason.text.endswith(".")
        assert reason.fix.endswith(".")
