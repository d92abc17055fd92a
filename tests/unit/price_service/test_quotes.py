"""The quote table: ages, sessions, and what an answer is made of."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infra.clock import NS_PER_MS, ManualClock
from infra.contracts import Instrument, MarketStatus
from infra.principal import Principal
from infra.rate import LocalRate, Unlimited
from price_service.domain.days import Day
from price_service.live.fetching import Fetches, Nobody
from price_service.live.frames import quote_json
from price_service.live.latest import Latest
from price_service.live.quotes import QuoteTable
from tests.unit.price_service.made import RECEIVED_MS, SESSION, quote, trade

# fmt: off
KEYS = [
    "symbol", "name", "price", "size", "bid", "bidSize", "ask", "askSize", "open", "high", "low", "previousClose",
    "change", "changePercent", "volume", "time", "receivedAt", "stale", "age",
]
# fmt: on

ASKER = Principal("ann", "investor", 1)
NEXT = SESSION + 86_400


def open_table(*ticks: Any, session: int = SESSION) -> QuoteTable:
    made = QuoteTable(5_000)
    made.status(MarketStatus("open", session, 0))
    for tick in ticks:
        made.tick(tick, 0, RECEIVED_MS)
    return flushed(made)


def flushed(made: QuoteTable) -> QuoteTable:
    for symbol in made.changed():
        made.quote(symbol)
    return made


def read(raw: bytes) -> dict[str, Any]:
    return dict(json.loads(raw, parse_float=Decimal))


def listed(symbol: str, session: int = SESSION) -> Instrument:
    return Instrument(symbol, symbol, 10_000, 1, session, 99_000_000)


def table(*ticks: Any) -> QuoteTable:
    made = QuoteTable(stale_after_ms=5_000)
    for tick in ticks:
        made.tick(tick, 0, RECEIVED_MS)
    return made


def test_a_quote_in_words() -> None:
    quotes = table(trade(1, 580_250_000, 7), quote(2, bid=580_240_000, ask=580_260_000, size=3), trade(3, 581_000_000))
    quotes.listed(Instrument("AAPL", 'Apple "Inc."', 10_000, 1, SESSION, 575_000_000))
    raw = quotes.quote("AAPL")
    assert b'"price":581.00,' in raw
    found = read(raw)
    assert list(found) == KEYS
    assert found == {
        "symbol": "AAPL",
        "name": 'Apple "Inc."',
        "price": Decimal(581),
        "size": 100,
        "bid": Decimal("580.24"),
        "bidSize": 3,
        "ask": Decimal("580.26"),
        "askSize": 3,
        "open": Decimal("580.25"),
        "high": Decimal(581),
        "low": Decimal("580.25"),
        "previousClose": Decimal(575),
        "change": Decimal(6),
        "changePercent": Decimal("1.0435"),
        "volume": 107,
        "time": "2023-11-14T22:13:20.003000000Z",
        "receivedAt": "2023-11-14T22:13:20.000Z",
        "stale": False,
        "age": None,
    }


def test_what_is_not_known_is_null() -> None:
    quotes = QuoteTable(5_000)
    quotes.listed(Instrument("NEW", "New", 10_000, 1, SESSION))
    found = read(quotes.quote("NEW"))
    assert {key for key, value in found.items() if value is None} == set(KEYS) - {"symbol", "name", "volume", "stale"}
    assert read(table(quote(1, bid=0, size=9)).quote("AAPL"))["bidSize"] is None


def test_a_new_session_starts_a_new_day_and_an_old_ones_ticks_are_passed_over() -> None:
    quotes = table(trade(1, 5), trade(2, 6))
    quotes.listed(Instrument("AAPL", "Apple", 10_000, 1, SESSION, 4_000_000))
    assert quotes.tick(trade(1, 9, session=SESSION + 1), 0, RECEIVED_MS)
    assert not quotes.tick(trade(3, 7), 0, RECEIVED_MS)
    found = read(quotes.quote("AAPL"))
    assert (found["open"], found["volume"], found["previousClose"]) == (Decimal("0.000009"), 100, None)


def test_a_quote_is_stale_by_receive_time_and_only_while_a_session_is_open() -> None:
    quotes = table(trade(1))
    late = RECEIVED_MS + 5_001
    quotes.changed()
    quotes.age(late)
    assert quotes.changed() == set()
    quotes.status(MarketStatus("open", SESSION, 0))
    quotes.age(RECEIVED_MS + 5_000)
    assert quotes.changed() == set()
    quotes.age(late)
    assert quotes.changed() == {"AAPL"}
    assert read(quotes.quote("AAPL"))["stale"]
    quotes.tick(trade(2), 0, late)
    assert not read(quotes.quote("AAPL"))["stale"]
    quotes.age(late + 6_000)
    quotes.status(MarketStatus("close", SESSION, 0))
    quotes.age(late + 7_000)
    assert not read(quotes.quote("AAPL"))["stale"]


@given(
    st.lists(st.integers(0, 10**13), min_size=9, max_size=9),
    st.integers(0, 2**31) | st.none(),
    st.text(max_size=20),
    st.integers(0, 2 * 10**18),
)
def test_every_number_of_a_quote_is_exact(numbers: list[int], age_s: int | None, name: str, time_ns: int) -> None:
    price, size, bid, bid_size, ask, ask_size, high, volume, close = numbers
    day = Day("A", SESSION, 0, price=price, size=size, price_q=1, bid=bid, bid_size=bid_size, ask=ask)
    day.ask_size, day.high, day.volume, day.time_ns, day.received_ms = ask_size, high, volume, time_ns, time_ns // 10**6
    found = read(quote_json(day, name, close, age_s))
    micros = {"price": price, "bid": bid, "ask": ask, "high": high, "previousClose": close}
    assert {key: found[key] for key in micros} == {
        key: Decimal(value) / 1_000_000 if value else None for key, value in micros.items()
    }
    assert (found["change"] is None) == (not price or not close)
    assert found["change"] in (None, Decimal(price - close) / 1_000_000)
    assert (found["name"], found["volume"], found["age"], found["stale"]) == (name, volume, age_s, age_s is not None)
    assert (found["bidSize"], found["askSize"]) == (bid_size if bid else None, ask_size if ask else None)
    if time_ns >= 10**6:
        assert found["time"][-10:-1] == str(time_ns)[-9:].zfill(9)
        assert found["receivedAt"] == found["time"][:-7] + "Z"


class TestAge:
    def test_a_slow_symbol_is_stale_later_than_a_busy_one(self) -> None:
        made = open_table()
        for q in range(1, 61):
            made.tick(trade(q, symbol="SLOW"), 0, RECEIVED_MS + q * 10_000)
            made.tick(trade(q, symbol="BUSY"), 0, RECEIVED_MS + 594_000 + q * 100)
        last_ms = RECEIVED_MS + 600_000
        for seconds, expected in ((4, []), (6, ["BUSY"]), (45, ["BUSY"]), (55, ["BUSY", "SLOW"])):
            made.age(last_ms + seconds * 1_000)
            flushed(made)
            stale = [symbol for symbol in ("BUSY", "SLOW") if read(made.quotes[symbol])["stale"]]
            assert stale == expected

    def test_the_age_is_of_the_moment_of_reading_and_null_while_the_quote_is_fresh(self) -> None:
        made = open_table(trade(1))
        assert made.aged("AAPL", RECEIVED_MS + 60_000) == (made.quotes["AAPL"], 0)
        assert read(made.quotes["AAPL"])["age"] is None
        made.age(RECEIVED_MS + 7_400)
        flushed(made)
        assert (read(made.quotes["AAPL"])["stale"], read(made.quotes["AAPL"])["age"]) == (True, 7)
        body, until_ms = made.aged("AAPL", RECEIVED_MS + 12_300)
        assert (read(body)["age"], until_ms) == (12, RECEIVED_MS + 13_000)
        assert made.aged("AAPL", until_ms - 1)[0] == body
        assert read(made.aged("AAPL", until_ms)[0])["age"] == 13

    def test_a_tick_ends_it(self) -> None:
        made = open_table(trade(1))
        made.age(RECEIVED_MS + 7_000)
        made.tick(trade(2), 0, RECEIVED_MS + 7_500)
        assert (read(made.quote("AAPL"))["stale"], made.is_wanting("AAPL")) == (False, False)

    def test_a_repeated_tick_does_not(self) -> None:
        made = open_table(trade(1))
        made.age(RECEIVED_MS + 7_000)
        assert not made.tick(trade(1), 0, RECEIVED_MS + 7_500)
        assert read(made.quote("AAPL"))["stale"]

    def test_what_was_stored_tells_a_starting_hub_how_often_a_symbol_ticks(self) -> None:
        day = Day("AAPL", SESSION, 0)
        for q in range(1, 61):
            day.apply(trade(q), SESSION * 1_000 + q * 10_000)
        made = open_table()
        made.load([day])
        made.age(day.received_ms + 40_000)
        assert not made.is_wanting("AAPL")
        made.age(day.received_ms + 60_000)
        assert made.is_wanting("AAPL")


class TestCurrent:
    """What is listed when nothing is named."""

    def test_the_symbols_of_the_newest_session_only(self) -> None:
        made = open_table(trade(1, symbol="OLD"), trade(1, symbol="BOTH"))
        made.listed(listed("OLD"))
        made.listed(listed("BOTH"))
        assert made.current() == ["BOTH", "OLD"]
        made.listed(listed("BOTH", NEXT))
        made.listed(listed("NEW", NEXT))
        # Until the next session opens, what it lists is only more.
        assert made.current() == ["BOTH", "NEW", "OLD"]
        made.status(MarketStatus("open", NEXT, 0))
        assert made.current() == ["BOTH", "NEW"]
        made.tick(trade(1, symbol="UNLISTED", session=NEXT), 0, RECEIVED_MS)
        assert made.current() == ["BOTH", "NEW", "UNLISTED"]

    def test_a_tick_of_a_later_session_begins_it_too(self) -> None:
        made = open_table(trade(1, symbol="OLD"))
        made.tick(trade(1, symbol="NEW", session=NEXT), 0, RECEIVED_MS)
        assert made.current() == ["NEW"]
        assert "OLD" in made.quotes

    def test_a_snapshot_begins_it_too(self) -> None:
        made = QuoteTable(5_000)
        made.load([Day("OLD", SESSION, 0), Day("NEW", NEXT, 0)])
        assert made.current() == ["NEW"]

    def test_a_halted_market_keeps_its_list(self) -> None:
        made = open_table(trade(1))
        made.status(MarketStatus("close", SESSION, 0))
        assert made.current() == ["AAPL"]


class TestLatest:
    """Answers that are kept."""

    def latest(self, made: QuoteTable, clock: ManualClock, **changes: Any) -> Latest:
        fetches = Fetches(Nobody(), made, clock, every_ms=5_000, wait_ms=100)
        return Latest(made, fetches, changes.get("rate", Unlimited()), clock)

    def test_an_answer_is_made_once_for_as_long_as_the_quote_is_the_same(self) -> None:
        made, clock = open_table(trade(1)), ManualClock()
        latest = self.latest(made, clock)
        first = latest.ready(ASKER, b"AAPL", 0.0)
        assert first is not None
        assert latest.ready(ASKER, b"AAPL", 0.0) is first
        made.tick(trade(2, 5_000_000), 0, RECEIVED_MS)
        # What is not flushed is not published yet, to no client.
        assert latest.ready(ASKER, b"AAPL", 0.0) is first
        flushed(made)
        second = latest.ready(ASKER, b"AAPL", 0.0)
        assert second is not None
        assert (second.body, second.etag != first.etag) == (made.quotes["AAPL"], True)

    def test_equal_bytes_have_equal_tags(self) -> None:
        made, clock = open_table(trade(1)), ManualClock()
        latest = self.latest(made, clock)
        first = latest.of("AAPL")
        made.quote("AAPL")
        again = latest.of("AAPL")
        assert (again.body, again.etag) == (first.body, first.etag)

    def test_only_names_as_we_write_them_are_ready(self) -> None:
        latest = self.latest(open_table(trade(1)), ManualClock())
        for name in (b"aapl", b"NOPE", b"", b"AAPL&x=1", b"%41APL", b"\xff", b"AAPL "):
            assert latest.ready(ASKER, name, 0.0) is None

    def test_a_stale_quote_is_for_the_ordinary_way_while_the_venue_may_be_asked(self) -> None:
        clock = ManualClock(RECEIVED_MS * NS_PER_MS)
        made = open_table(trade(1))
        latest = self.latest(made, clock)
        clock.advance(10)
        made.age(clock.now_ns() // NS_PER_MS)
        flushed(made)
        assert latest.ready(ASKER, b"AAPL", 0.0) is None
        # No question is sensible while the market is closed; the age goes on as long as it is not looked at anew.
        made.status(MarketStatus("close", SESSION, 0))
        first = latest.ready(ASKER, b"AAPL", 0.0)
        assert first is not None
        assert read(first.body)["age"] == 10
        clock.advance(0.9)
        assert latest.ready(ASKER, b"AAPL", 0.0) is first
        clock.advance(0.1)
        later = latest.ready(ASKER, b"AAPL", 0.0)
        assert later is not None
        assert read(later.body)["age"] == 11

    def test_who_asks_too_often_is_for_the_ordinary_way_and_only_what_is_given_is_counted(self) -> None:
        limit = LocalRate(1, 2)
        latest = self.latest(open_table(trade(1)), ManualClock(), rate=limit)
        for name in (b"NOPE", b"aapl"):
            assert latest.ready(ASKER, name, 10.0) is None
        given = [latest.ready(ASKER, b"AAPL", 10.0) is not None for _ in range(4)]
        assert given == [True, True, False, False]
        assert latest.ready(Principal("bob", "investor", 2), b"AAPL", 10.0) is not None


def test_a_quote_says_what_its_own_parts_say() -> None:
    """The remembered texts do not mix up quotes that share some of their numbers."""
    made = open_table()
    made.listed(Instrument("A", "A", 10_000, 1, SESSION, 10_000_000))
    made.listed(Instrument("B", "B", 10_000, 1, SESSION, 20_000_000))
    for q, price in enumerate((10_000_000, 20_000_000, 15_000_000), 1):
        for symbol in ("A", "B"):
            made.tick(trade(q, price, symbol=symbol), 0, RECEIVED_MS)
            made.tick(quote(q + 10, price, price + 20_000, symbol=symbol), 0, RECEIVED_MS)
            found = read(made.quote(symbol))
            close = 10 if symbol == "A" else 20
            assert (found["symbol"], found["price"]) == (symbol, Decimal(price) / 1_000_000)
            assert found["change"] == found["price"] - close
            assert found["changePercent"] == round((found["price"] - close) / close * 100, 4)
            assert (found["bid"], found["ask"]) == (found["price"], found["price"] + Decimal("0.02"))
