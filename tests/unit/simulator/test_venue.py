"""The exchange's rules, one by one. Prices in cents; the book stands at 999 bid 100 / 1001 ask 100 unless said."""

from __future__ import annotations

import pytest

from exchange_gateway.simulator.messages import VenueError
from tests.unit.simulator.made import CENT, NOW, SESSION, Floor, brief, terms


@pytest.fixture
def floor() -> Floor:
    made = Floor()
    made.quote(999, 100, 1001, 100)
    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("BUY 10 @ 1001", ["NEW c-1", "TRADE c-1 10@1001"]),
        ("BUY 10 @ 1005", ["NEW c-1", "TRADE c-1 10@1001"]),
        ("BUY 10 @ 1000", ["NEW c-1"]),
        ("BUY 150 @ 1001", ["NEW c-1", "TRADE c-1 100@1001"]),
        ("BUY 150 @ 1001 GTC", ["NEW c-1", "TRADE c-1 100@1001"]),
        ("BUY 150 @ 1001 IOC", ["NEW c-1", "TRADE c-1 100@1001", "CANCELED c-1 ioc_rest"]),
        ("BUY 10 @ 1000 IOC", ["NEW c-1", "CANCELED c-1 ioc_rest"]),
        ("BUY 100 @ 1001 FOK", ["NEW c-1", "TRADE c-1 100@1001"]),
        ("BUY 101 @ 1001 FOK", ["NEW c-1", "CANCELED c-1 fok_unfilled"]),
        ("SELL 10 MARKET", ["NEW c-1", "TRADE c-1 10@999"]),
        ("SELL 150 MARKET", ["NEW c-1", "TRADE c-1 100@999", "CANCELED c-1 unsolicited"]),
        ("SELL 150 MARKET FOK", ["NEW c-1", "CANCELED c-1 fok_unfilled"]),
        ("SELL 150 MARKET GTC", ["NEW c-1", "TRADE c-1 100@999", "CANCELED c-1 unsolicited"]),
        ("BUY 0 @ 1000", ["REJECTED c-1 bad_quantity"]),
        ("BUY -5 @ 1000", ["REJECTED c-1 bad_quantity"]),
        ("BUY 1000001 @ 1000", ["REJECTED c-1 bad_quantity"]),
        ("BUY 1000000 @ 1000", ["NEW c-1"]),
        ("BUY 10 @ 0", ["REJECTED c-1 bad_price"]),
        ("BUY 10 @ -1", ["REJECTED c-1 bad_price"]),
    ],
)
def test_a_new_order(floor: Floor, words: str, expected: list[str]) -> None:
    assert brief(floor.order(words)) == expected


def test_a_price_off_the_tick_is_refused(floor: Floor) -> None:
    order = terms("BUY 10 @ 1000")
    off = type(order)(**{f: getattr(order, f) for f in order.__struct_fields__} | {"limit_micros": 1000 * CENT + 1})
    assert brief(floor.told(floor.venue.submit(off, NOW))) == ["REJECTED c-1 bad_tick"]


def test_an_unknown_symbol_is_refused_and_the_id_is_used_up(floor: Floor) -> None:
    assert brief(floor.order("BUY 10 @ 1000", "mine", symbol="ZZZ")) == ["REJECTED mine unknown_symbol"]
    with pytest.raises(VenueError) as refused:
        floor.order("BUY 10 @ 1000", "mine")
    assert (refused.value.status, refused.value.code) == (409, "duplicate_cl_ord_id")


def test_a_market_order_without_anything_on_the_other_side_is_refused(floor: Floor) -> None:
    floor.quote(999, 100, 0, 0)
    assert brief(floor.order("BUY 10 MARKET")) == ["REJECTED c-1 no_liquidity"]


def test_every_field_of_a_fill(floor: Floor) -> None:
    new, fill = floor.order("BUY 150 @ 1001", "mine")
    assert new.exec_id == f"{SESSION}-1"
    assert (new.order_status, new.leaves_qty, new.cum_qty, new.venue_seq) == ("NEW", 150, 0, 1)
    assert (fill.kind, fill.exec_type, fill.order_status) == ("execution", "TRADE", "PARTIALLY_FILLED")
    assert (fill.last_qty, fill.last_micros, fill.cum_qty, fill.leaves_qty) == (100, 1001 * CENT, 100, 50)
    assert (fill.symbol, fill.side, fill.quantity, fill.limit_micros) == ("AAA", "BUY", 150, 1001 * CENT)
    assert (fill.exchange_order_id, fill.venue_seq, fill.session, fill.transact_ns) == ("X1", 2, SESSION, NOW)
    assert (fill.orig_cl_ord_id, fill.exec_ref_id, fill.reason) == (None, None, None)


def test_clients_meet_each_other_and_both_are_told(floor: Floor) -> None:
    floor.order("SELL 30 @ 1000", "ask")
    reports = floor.order("BUY 50 @ 1000", "bid")
    assert brief(reports) == ["NEW bid", "TRADE bid 30@1000", "TRADE ask 30@1000"]
    assert [r.order_status for r in reports] == ["NEW", "PARTIALLY_FILLED", "FILLED"]


def test_one_client_may_meet_itself(floor: Floor) -> None:
    floor.order("SELL 30 @ 1000", "same-1")
    assert brief(floor.order("BUY 30 @ 1000", "same-2"))[1:] == ["TRADE same-2 30@1000", "TRADE same-1 30@1000"]


def test_a_resting_order_is_filled_by_a_quote_and_by_a_print_through_it(floor: Floor) -> None:
    floor.order("BUY 100 @ 1000", "mine")
    assert brief(floor.quote(998, 10, 1000, 30)) == ["TRADE mine 30@1000"]
    assert floor.trade(1000, 500) == []
    assert brief(floor.trade(999, 20)) == ["TRADE mine 20@1000"]
    assert brief(floor.trade(990, 500)) == ["TRADE mine 50@1000"]
    assert floor.trade(990, 500) == []


class TestCancel:
    def test_a_live_order(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 1000", "mine")
        (report,) = floor.cancel("mine", "out")
        assert brief([report]) == ["CANCELED out"]
        assert (report.orig_cl_ord_id, report.order_status, report.leaves_qty) == ("mine", "CANCELED", 0)
        assert floor.trade(900, 500) == []

    def test_what_was_filled_stays_filled(self, floor: Floor) -> None:
        floor.order("BUY 150 @ 1001", "mine")
        (report,) = floor.cancel("mine")
        assert (report.order_status, report.cum_qty, report.leaves_qty) == ("CANCELED", 100, 0)

    def test_too_late(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 1001", "mine")
        (report,) = floor.cancel("mine", "out")
        assert brief([report]) == ["cancel_reject out too_late"]
        assert (report.exec_type, report.order_status, report.venue_seq) == (None, "FILLED", 3)
        assert floor.venue.find("out") is floor.venue.find("mine")

    def test_an_unknown_order_uses_up_no_id(self, floor: Floor) -> None:
        for _ in range(2):
            (report,) = floor.cancel("never", "out")
            assert brief([report]) == ["cancel_reject out unknown_order"]
            assert (report.exchange_order_id, report.symbol, report.venue_seq) == (None, None, 0)
            assert report.orig_cl_ord_id == "never"
        assert floor.venue.find("out") is None

    def test_a_used_id_is_a_duplicate(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 1000", "mine")
        with pytest.raises(VenueError):
            floor.cancel("mine", "mine")


class TestReplace:
    def test_terms_change_and_every_id_of_the_chain_finds_the_order(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 990", "one")
        (report,) = floor.replace("one", 20, 991, "two")
        assert brief([report]) == ["REPLACED two"]
        assert (report.orig_cl_ord_id, report.quantity, report.limit_micros) == ("one", 20, 991 * CENT)
        assert (report.order_status, report.leaves_qty) == ("NEW", 20)
        assert brief(floor.replace("one", 21, None, "three")) == ["REPLACED three"]
        found = floor.venue.find("two")
        assert found
        assert (found.cl_ord_id, found.quantity, found.limit_micros) == ("three", 21, 991 * CENT)
        assert brief(floor.cancel("two", "four")) == ["CANCELED four"]

    def test_a_price_that_reaches_the_other_side_trades_at_once(self, floor: Floor) -> None:
        floor.order("BUY 150 @ 990", "one")
        reports = floor.replace("one", None, 1002, "two")
        assert brief(reports) == ["REPLACED two", "TRADE two 100@1001"]
        assert reports[-1].leaves_qty == 50

    @pytest.mark.parametrize(
        ("quantity", "price", "first"),
        [(5, None, "one"), (10, 1000, "one"), (11, None, "two"), (None, 1000, "one")],
    )
    def test_only_less_quantity_keeps_the_place(
        self, floor: Floor, quantity: int | None, price: int | None, first: str
    ) -> None:
        floor.order("SELL 10 @ 1000", "one")
        floor.order("SELL 10 @ 1000", "two")
        floor.replace("one", quantity, price, "new")
        filled = brief(floor.order("BUY 1 @ 1000", "taker"))[-1]
        assert filled.split()[1] == ("new" if first == "one" else "two")

    def test_another_price_and_back_loses_the_place(self, floor: Floor) -> None:
        floor.order("SELL 10 @ 1000", "one")
        floor.order("SELL 10 @ 1000", "two")
        floor.replace("one", None, 1001)
        floor.replace("one", None, 1000)
        assert brief(floor.order("BUY 1 @ 1000"))[-1].startswith("TRADE two")

    def test_quantity_is_the_total_and_cannot_fall_to_what_is_filled(self, floor: Floor) -> None:
        floor.order("BUY 150 @ 1001", "one")
        assert brief(floor.replace("one", 100, None, "a")) == ["cancel_reject a too_late"]
        (report,) = floor.replace("one", 120, None, "b")
        assert (report.cum_qty, report.leaves_qty, report.order_status) == (100, 20, "PARTIALLY_FILLED")

    @pytest.mark.parametrize(
        ("quantity", "price", "code"), [(0, None, "bad_quantity"), (-1, 5, "bad_quantity"), (5, 0, "bad_price")]
    )
    def test_bad_values_leave_the_order_as_it_was(
        self, floor: Floor, quantity: int, price: int | None, code: str
    ) -> None:
        floor.order("BUY 10 @ 990", "one")
        (report,) = floor.replace("one", quantity, price, "two")
        assert brief([report]) == [f"cancel_reject two {code}"]
        assert (report.order_status, report.quantity, report.leaves_qty) == ("NEW", 10, 10)
        assert brief(floor.cancel("one")) != []

    def test_ended_and_unknown_orders(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 1001", "one")
        assert brief(floor.replace("one", 20, None, "a")) == ["cancel_reject a too_late"]
        assert brief(floor.replace("never", 20, None, "b")) == ["cancel_reject b unknown_order"]


class TestSessions:
    def test_day_orders_expire_at_the_close_and_others_stay(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 990", "day")
        floor.order("BUY 10 @ 990 GTC", "gtc")
        assert brief(floor.close()) == ["EXPIRED day session_closed"]
        floor.venue.assign_session(SESSION + 1)
        floor.open()
        assert brief(floor.trade(980, 500)) == ["TRADE gtc 10@990"]
        assert floor.all[-1].report.exec_id.startswith(f"{SESSION + 1}-")

    @pytest.mark.parametrize("words", ["BUY 10 @ 1000", "BUY 10 @ 1000 IOC", "BUY 10 @ 1000 FOK", "BUY 1 MARKET GTC"])
    def test_while_closed_only_gtc_limit_orders_are_taken(self, words: str) -> None:
        floor = Floor()
        floor.close()
        assert brief(floor.order(words)) == ["REJECTED c-1 market_closed"]

    def test_orders_taken_while_closed_meet_at_the_open_in_their_time_order(self) -> None:
        floor = Floor()
        floor.close()
        floor.order("SELL 10 @ 1000 GTC", "first")
        floor.order("SELL 10 @ 1000 GTC", "second")
        assert brief(floor.order("BUY 15 @ 1001 GTC", "buyer")) == ["NEW buyer"]
        assert brief(floor.replace("first", None, 999, "later")) == ["REPLACED later"]
        floor.venue.assign_session(SESSION + 1)
        assert brief(floor.open()) == [
            "TRADE buyer 10@1000",
            "TRADE second 10@1000",
            "TRADE later 5@1001",
            "TRADE buyer 5@1001",
        ]

    def test_the_market_maker_leaves_at_the_close(self, floor: Floor) -> None:
        floor.close()
        floor.venue.assign_session(SESSION + 1)
        floor.open()
        assert brief(floor.order("BUY 10 MARKET")) == ["REJECTED c-1 no_liquidity"]

    def test_a_session_number_never_comes_again(self, floor: Floor) -> None:
        floor.close()
        with pytest.raises(AssertionError):
            floor.venue.assign_session(SESSION)


def test_mass_status_and_executions_page_by_number(floor: Floor) -> None:
    for _ in range(5):
        floor.order("BUY 1 @ 1001")
    venue = floor.venue
    assert [o.number for o in venue.page(0, 2)] == [1, 2]
    assert [o.number for o in venue.page(4, 10)] == [5]
    assert venue.total() == venue.executions() == 5
    numbers = [n for n, _ in venue.executions_page(0, 3)]
    assert numbers == [2, 4, 6]
    assert [n for n, _ in venue.executions_page(6, 10)] == [8, 10]
    state = venue.page(0, 1)[0].state()
    assert (state.order_status, state.cum_notional_micros, state.leaves_qty) == ("FILLED", 1001 * CENT, 0)


def test_forgetting_frees_ended_orders_and_names_those_to_carry() -> None:
    floor = Floor()
    floor.quote(999, 100, 1001, 100)
    floor.order("BUY 1 @ 1001", "ended")
    floor.order("BUY 1 @ 990 GTC", "live")
    upto = floor.venue.last_n
    floor.order("BUY 1 @ 1001", "later")
    assert [o.cl_ord_id for o in floor.venue.forget(upto)] == ["live"]
    assert floor.venue.find("ended") is None
    assert floor.venue.total() == 2
    assert floor.venue.executions() == 1
    assert brief(floor.order("BUY 1 @ 1001", "ended"))[0] == "NEW ended"
