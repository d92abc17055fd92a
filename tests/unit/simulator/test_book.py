"""The book alone: price first, then time, the market maker among the clients. Prices are plain numbers here."""

from __future__ import annotations

from exchange_gateway.simulator.book import Book, Fill
from exchange_gateway.simulator.messages import Side

MM = 0


def made(*orders: tuple[int, Side, int, int]) -> Book:
    """A book with resting orders (number, side, quantity, price), entered in this order."""
    book = Book()
    for number, side, quantity, price in orders:
        book.rest(side, number, quantity, price, stamp=number)
    return book


def test_better_prices_first_and_earlier_orders_first_at_one_price() -> None:
    book = made((1, "SELL", 10, 102), (2, "SELL", 10, 101), (3, "SELL", 10, 101))
    assert book.take("BUY", 9, 25, limit=None) == [Fill(2, 9, 10, 101), Fill(3, 9, 10, 101), Fill(1, 9, 5, 102)]
    assert [(o.number, o.leaves) for o in book.resting("SELL")] == [(1, 5)]


def test_buyers_are_served_from_the_highest_bid() -> None:
    book = made((1, "BUY", 10, 99), (2, "BUY", 10, 100))
    assert book.take("SELL", 9, 15, limit=99) == [Fill(2, 9, 10, 100), Fill(1, 9, 5, 99)]


def test_a_limit_is_never_crossed() -> None:
    book = made((1, "SELL", 10, 101), (2, "SELL", 10, 102))
    assert book.take("BUY", 9, 20, limit=101) == [Fill(1, 9, 10, 101)]
    assert book.take("BUY", 9, 20, limit=101) == []


def test_the_market_makers_size_is_gone_until_its_next_quote() -> None:
    book = Book()
    book.quote(99, 10, 101, 10, stamp=0)
    assert book.take("BUY", 9, 15, limit=None) == [Fill(MM, 9, 10, 101)]
    assert book.available("BUY", None, 1) == 0
    book.quote(99, 10, 101, 7, stamp=0)
    assert book.available("BUY", None, 100) == 7


def test_a_client_that_was_there_before_the_quote_is_served_before_it() -> None:
    book = made((1, "SELL", 10, 101))
    book.quote(99, 10, 101, 10, stamp=1)
    book.rest("SELL", 2, 10, 101, stamp=2)
    assert book.take("BUY", 9, 30, None) == [Fill(1, 9, 10, 101), Fill(MM, 9, 10, 101), Fill(2, 9, 10, 101)]


def test_a_quote_keeps_its_place_while_its_price_stays_and_its_size_does_not_rise() -> None:
    for size, first in ((8, MM), (11, 1)):
        book = Book()
        book.quote(99, 10, 101, 10, stamp=0)
        book.rest("SELL", 1, 10, 101, stamp=1)
        book.quote(99, 10, 101, size, stamp=1)
        assert book.take("BUY", 9, 1, None)[0].maker == first


def test_a_quote_that_reaches_resting_orders_fills_them_at_their_price_up_to_its_size() -> None:
    book = made((1, "BUY", 10, 100), (2, "BUY", 10, 101))
    assert book.quote(98, 5, 100, 15, stamp=2) == [Fill(2, MM, 10, 101), Fill(1, MM, 5, 100)]
    assert book.available("BUY", None, 100) == 0, "the quote's size is spent"
    assert book.quote(101, 5, 103, 5, stamp=2) == [], "a better bid does not hit bids"


def test_a_print_strictly_through_the_limit_fills_up_to_its_size() -> None:
    book = made((1, "BUY", 10, 100), (2, "BUY", 10, 101))
    assert book.trade(101, 50) == []
    assert book.trade(100, 50) == [Fill(2, MM, 10, 101)]
    assert book.trade(99, 4) == [Fill(1, MM, 4, 100)]
    book = made((1, "SELL", 10, 100))
    assert book.trade(100, 50) == []
    assert book.trade(101, 50) == [Fill(1, MM, 10, 100)]


def test_a_side_without_price_or_size_is_no_quote() -> None:
    book = made((1, "BUY", 10, 100))
    assert book.quote(0, 10, 0, 10, stamp=1) == []
    assert book.quote(99, 0, 100, 0, stamp=1) == []
    assert book.available("BUY", None, 1) == 0
    assert book.available("SELL", None, 100) == 10


def test_locked_and_crossed_quotes_do_not_trade_with_themselves() -> None:
    book = Book()
    assert book.quote(101, 10, 100, 10, stamp=0) == []
    assert book.take("BUY", 9, 5, None) == [Fill(MM, 9, 5, 100)]
    assert book.take("SELL", 8, 5, None) == [Fill(MM, 8, 5, 101)]


def test_what_is_available_counts_only_what_the_limit_reaches() -> None:
    book = made((1, "SELL", 10, 101), (2, "SELL", 10, 102))
    book.quote(99, 5, 103, 5, stamp=2)
    assert [book.available("BUY", limit, 1000) for limit in (100, 101, 102, 103, None)] == [0, 10, 20, 25, 25]
    assert book.available("BUY", None, 12) == 12


def test_shrinking_keeps_the_place_and_removing_leaves_the_others() -> None:
    book = made((1, "BUY", 10, 100), (2, "BUY", 10, 100), (3, "BUY", 10, 100))
    book.resize(1, 4)
    book.remove(2)
    assert 2 not in book
    assert book.take("SELL", 9, 20, None) == [Fill(1, 9, 4, 100), Fill(3, 9, 10, 100)]
    assert list(book.resting("BUY")) == []
