"""Books: what clients and the market maker offer, best first, conflated per reader."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchange_gateway.simulator.book import Book
from exchange_gateway.simulator.depth import BOOKS_PER_FRAME, LEVELS_MAX, REFRESH_S, Depths, levels
from infra.clock import ManualClock

CENT = 10_000


def book(bid: int = 0, bid_size: int = 0, ask: int = 0, ask_size: int = 0) -> Book:
    made = Book()
    made.quote(bid * CENT, bid_size, ask * CENT, ask_size, 1)
    return made


def test_the_market_maker_stands_behind_its_quote_too() -> None:
    bids, asks = levels(book(100, 3, 102, 5), CENT)
    assert bids[:3] == ((100 * CENT, 3), (99 * CENT, 6), (98 * CENT, 9))
    assert asks[:3] == ((102 * CENT, 5), (103 * CENT, 10), (104 * CENT, 15))
    assert (len(bids), len(asks)) == (LEVELS_MAX, LEVELS_MAX)


def test_client_orders_are_summed_with_it_per_price() -> None:
    made = book(100, 3, 102, 5)
    made.rest("BUY", 1, 7, 99 * CENT, 2)
    made.rest("BUY", 2, 1, 99 * CENT, 3)
    made.rest("SELL", 3, 4, 101 * CENT, 4)
    bids, asks = levels(made, CENT)
    assert bids[:2] == ((100 * CENT, 3), (99 * CENT, 6 + 8))
    assert asks[:2] == ((101 * CENT, 4), (102 * CENT, 5))


def test_a_side_without_a_market_maker_has_client_orders_only() -> None:
    made = book(0, 0, 102, 5)
    made.rest("BUY", 1, 7, 50 * CENT, 2)
    assert levels(made, CENT)[0] == ((50 * CENT, 7),)
    assert levels(book(), CENT) == ((), ())


def test_no_level_is_at_or_below_zero() -> None:
    bids, _ = levels(book(3, 1, 4, 1), CENT)
    assert [price // CENT for price, _ in bids] == [3, 2, 1]


@given(
    st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), st.integers(80, 120), st.integers(1, 9)), max_size=40),
    st.integers(85, 105),
    st.integers(-5, 10),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_a_book_is_sorted_and_positive_and_only_the_tape_s_own_quote_may_cross(
    orders: list[tuple[str, int, int]], bid: int, spread: int, bid_size: int, ask_size: int
) -> None:
    made = book(bid, bid_size, bid + spread, ask_size)
    for number, (side, price, quantity) in enumerate(orders, 1):
        taken = made.take(side, number, quantity, price * CENT)  # type: ignore[arg-type]
        if left := quantity - sum(fill.quantity for fill in taken):
            made.rest(side, number, left, price * CENT, number)  # type: ignore[arg-type]
    bids, asks = levels(made, CENT)
    assert list(bids) == sorted(set(bids), reverse=True)
    assert list(asks) == sorted(set(asks))
    assert len({p for p, _ in bids}) == len(bids) <= LEVELS_MAX
    assert len({p for p, _ in asks}) == len(asks) <= LEVELS_MAX
    assert all(price > 0 and size > 0 for price, size in bids + asks)
    quoted = {bid * CENT, (bid + spread) * CENT} if spread <= 0 else set()
    behind = [p for p, _ in bids if p not in quoted], [p for p, _ in asks if p not in quoted]
    assert not behind[0] or not asks or behind[0][0] < asks[0][0]
    assert not behind[1] or not bids or behind[1][0] > bids[0][0]


def depths(*symbols: str, clock: ManualClock | None = None) -> tuple[Depths, dict[str, Book]]:
    books = {symbol: book(100, 3, 102, 5) for symbol in symbols}
    made = Depths(books.__getitem__, CENT, clock or ManualClock())
    made.begin(7, symbols)
    return made, books


def test_a_reader_begins_with_every_book_and_then_gets_what_moved_once() -> None:
    made, books = depths("A", "B")
    reader = made.join()
    assert [[(b.s, b.d, b.n) for b in few] for few in reader.take()] == [[("A", 7, 1), ("B", 7, 1)]]
    assert list(reader.take()) == []
    books["B"].quote(99 * CENT, 1, 102 * CENT, 5, 2)
    for _ in range(5):
        made.moved(["B"])
    ((again,),) = reader.take()
    assert (again.s, again.n, again.bids[0]) == ("B", 2, (99 * CENT, 1))


def test_nothing_is_kept_for_nobody() -> None:
    made, _ = depths("A")
    assert not made.is_read
    reader = made.join()
    assert made.is_read
    made.leave(reader)
    made.moved(["A"])
    assert not made.is_read
    assert not reader.waiting


def test_every_book_comes_again_in_a_while() -> None:
    clock = ManualClock()
    made, _ = depths("A", "B", clock=clock)
    reader = made.join()
    list(reader.take())
    clock.advance(REFRESH_S - 1)
    made.moved(["B"])
    assert [b.s for few in reader.take() for b in few] == ["B"]
    clock.advance(1)
    assert sorted(b.s for few in reader.take() for b in few) == ["A", "B"]
    assert list(reader.take()) == []


def test_a_new_session_numbers_anew_and_moves_all() -> None:
    made, _ = depths("A", "B")
    reader = made.join()
    list(reader.take())
    made.begin(8, ["A"])
    assert [(b.s, b.d, b.n) for few in reader.take() for b in few] == [("A", 8, 1)]


def test_many_books_come_in_several_frames() -> None:
    symbols = [f"S{i}" for i in range(BOOKS_PER_FRAME + 1)]
    made, _ = depths(*symbols)
    assert [len(few) for few in made.join().take()] == [BOOKS_PER_FRAME, 1]
