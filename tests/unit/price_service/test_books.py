"""The newest book wins, a silent one is stale, and after the session there is none."""

from __future__ import annotations

import json
from decimal import Decimal

from infra.contracts import Depth
from price_service.live.books import Book, BookTable, book_json
from tests.unit.price_service.made import SESSION, T0

BIDS, ASKS = ((99_990_000, 200), (99_985_500, 5)), ((100_010_000, 300),)


def depth(n: int, session: int = SESSION, symbol: str = "AAPL") -> Depth:
    return Depth(symbol, session, n, T0, BIDS, ASKS)


def test_it_reads_as_exact_numbers_best_first() -> None:
    book = json.loads(book_json(Book(depth(7), 1_700_000_000_123)), parse_float=Decimal)
    assert book == {
        "symbol": "AAPL",
        "session": SESSION,
        "sequence": 7,
        "time": "2023-11-14T22:13:20.000000000Z",
        "receivedAt": "2023-11-14T22:13:20.123Z",
        "bids": [{"price": Decimal("99.99"), "size": 200}, {"price": Decimal("99.9855"), "size": 5}],
        "asks": [{"price": Decimal("100.01"), "size": 300}],
        "stale": False,
    }


def test_an_older_book_changes_nothing() -> None:
    table = BookTable(stale_after_ms=100)
    for n, session in ((2, SESSION), (1, SESSION), (2, SESSION), (9, SESSION - 1)):
        table.take(depth(n, session), 5)
    assert {symbol: book.depth.n for symbol, book in table.changed().items()} == {"AAPL": 2}
    assert table.changed() == {}
    table.take(depth(1, SESSION + 1), 6)
    held = table.get("AAPL")
    assert held is not None
    assert (held.depth.d, held.depth.n) == (SESSION + 1, 1)


def test_silence_is_told_once_and_ends_with_the_next_book() -> None:
    table = BookTable(stale_after_ms=100)
    table.take(depth(1), 1_000)
    table.take(depth(1, symbol="IBM"), 1_100)
    table.changed()
    for now_ms, changed in ((1_100, []), (1_101, ["AAPL"]), (1_150, []), (1_300, ["IBM"])):
        table.age(now_ms)
        assert list(table.changed()) == changed
    table.take(depth(2), 1_300)
    assert [book.stale for book in table.changed().values()] == [False]


def test_at_the_end_followers_get_empty_books_and_readers_none() -> None:
    table = BookTable(stale_after_ms=100)
    table.take(depth(1), 1_000)
    table.changed()
    table.close()
    (empty,) = table.changed().values()
    assert (empty.depth.bids, empty.depth.asks, empty.stale, empty.depth.n) == ((), (), True, 1)
    assert table.get("AAPL") is None
    table.close()
    assert table.changed() == {}
