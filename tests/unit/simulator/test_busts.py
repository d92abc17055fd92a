"""Fills that are taken back, put right, too large or unasked for. Prices in cents; 999 bid 100 / 1001 ask 100."""

from __future__ import annotations

import msgspec
import pytest

from exchange_gateway.simulator.messages import Report, VenueError
from tests.unit.simulator.made import CENT, NOW, SESSION, Floor, brief, terms


@pytest.fixture
def floor() -> Floor:
    made = Floor()
    made.quote(999, 100, 1001, 100)
    return made


def bust(floor: Floor, exec_id: str) -> list[Report]:
    return floor.told(floor.venue.bust(exec_id, NOW))


def correct(floor: Floor, exec_id: str, quantity: int, price: int) -> list[Report]:
    return floor.told(floor.venue.correct(exec_id, quantity, price * CENT, NOW))


def numbers(floor: Floor, cl_ord_id: str) -> tuple[str | None, int, int, int]:
    """Status, CumQty, LeavesQty and the sum of price × quantity in cents."""
    order = floor.venue.find(cl_ord_id)
    assert order
    state = order.state()
    return state.order_status, state.cum_qty, state.leaves_qty, state.cum_notional_micros // CENT


class TestBust:
    def test_a_live_order_has_the_quantity_open_again(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001", "mine")
        (report,) = bust(floor, fill.exec_id)
        assert brief([report]) == ["TRADE_CANCEL mine 100@1001"]
        assert (report.exec_ref_id, report.order_status, report.venue_seq) == (fill.exec_id, "NEW", 3)
        assert (report.cum_qty, report.leaves_qty, report.quantity) == (0, 150, 150)
        assert numbers(floor, "mine") == ("NEW", 0, 150, 0)
        assert brief(floor.order("SELL 150 @ 1001"))[1] == "TRADE c-1 150@1001"

    def test_it_rests_again_in_its_old_place(self, floor: Floor) -> None:
        floor.order("SELL 50 @ 1000", "first")
        floor.order("SELL 50 @ 1000", "second")
        fill = floor.order("BUY 20 @ 1000")[2]
        assert fill.cl_ord_id == "first"
        bust(floor, fill.exec_id)
        assert brief(floor.order("BUY 60 @ 1000", "taker"))[1:] == [
            "TRADE taker 50@1000",
            "TRADE first 50@1000",
            "TRADE taker 10@1000",
            "TRADE second 10@1000",
        ]

    def test_a_filled_order_stays_ended(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 100 @ 1001", "mine")
        reports = bust(floor, fill.exec_id)
        assert brief(reports) == ["TRADE_CANCEL mine 100@1001", "CANCELED mine busted"]
        assert [(r.order_status, r.cum_qty, r.leaves_qty) for r in reports] == [("NEW", 0, 100), ("CANCELED", 0, 0)]
        assert numbers(floor, "mine") == ("CANCELED", 0, 0, 0)
        assert floor.order("SELL 10 @ 1001 IOC")[-1].exec_type == "CANCELED", "nothing of it stands in the book"

    def test_a_canceled_order_stays_canceled(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001", "mine")
        floor.cancel("mine")
        (report,) = bust(floor, fill.exec_id)
        assert (report.order_status, report.cum_qty, report.leaves_qty) == ("CANCELED", 0, 0)

    def test_one_of_two_fills(self, floor: Floor) -> None:
        _, first = floor.order("BUY 150 @ 1001", "mine")
        floor.quote(999, 100, 1000, 50)
        bust(floor, first.exec_id)
        assert numbers(floor, "mine") == ("CANCELED", 50, 0, 50 * 1001)

    def test_only_once(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001")
        bust(floor, fill.exec_id)
        with pytest.raises(VenueError, match="busted") as refused:
            bust(floor, fill.exec_id)
        assert refused.value.status == 409
        with pytest.raises(VenueError, match="busted"):
            correct(floor, fill.exec_id, 1, 1001)

    @pytest.mark.parametrize(
        "exec_id", ["", "x", f"{SESSION}-1", f"{SESSION}-99", "7-2", f"{SESSION}-{'9' * 5000}", "0-0"]
    )
    def test_what_is_no_fill_is_unknown(self, floor: Floor, exec_id: str) -> None:
        floor.order("BUY 150 @ 1001")
        with pytest.raises(VenueError) as refused:
            bust(floor, exec_id)
        assert (refused.value.status, refused.value.code) == (404, "unknown_execution")

    def test_a_bust_itself_cannot_be_busted(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001")
        (report,) = bust(floor, fill.exec_id)
        with pytest.raises(VenueError, match="unknown_execution"):
            bust(floor, report.exec_id)


class TestCorrect:
    def test_the_price(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 100 @ 1001", "mine")
        (report,) = correct(floor, fill.exec_id, 100, 1002)
        assert brief([report]) == ["TRADE_CORRECT mine 100@1002"]
        assert (report.exec_ref_id, report.order_status, report.cum_qty) == (fill.exec_id, "FILLED", 100)
        assert numbers(floor, "mine") == ("FILLED", 100, 0, 100 * 1002)

    def test_less_quantity_is_a_bust_in_part(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001", "live")
        (report,) = correct(floor, fill.exec_id, 40, 1001)
        assert (report.last_qty, report.cum_qty, report.leaves_qty) == (40, 40, 110)
        floor.quote(999, 100, 1002, 100)
        assert brief(floor.order("SELL 110 @ 1001"))[1].split()[-1] == "110@1001"

    def test_less_quantity_of_a_filled_order(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 100 @ 1001", "mine")
        assert brief(correct(floor, fill.exec_id, 40, 1001)) == ["TRADE_CORRECT mine 40@1001", "CANCELED mine busted"]
        assert numbers(floor, "mine") == ("CANCELED", 40, 0, 40 * 1001)

    def test_more_quantity_can_fill_the_order(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001", "mine")
        (report,) = correct(floor, fill.exec_id, 150, 1001)
        assert (report.order_status, report.leaves_qty) == ("FILLED", 0)
        assert floor.order("SELL 10 @ 1001 IOC")[-1].exec_type == "CANCELED", "it left the book"

    def test_again_and_then_a_bust_name_the_first_fill(self, floor: Floor) -> None:
        _, fill = floor.order("BUY 150 @ 1001", "mine")
        correct(floor, fill.exec_id, 90, 1002)
        (second,) = correct(floor, fill.exec_id, 80, 1003)
        (last,) = bust(floor, fill.exec_id)
        assert second.exec_ref_id == last.exec_ref_id == fill.exec_id
        assert (last.last_qty, last.last_micros) == (80, 1003 * CENT)
        assert numbers(floor, "mine") == ("NEW", 0, 150, 0)

    @pytest.mark.parametrize(("quantity", "price"), [(0, 1001), (-1, 1001), (1_000_001, 1001), (10, 0), (10, -1)])
    def test_only_with_possible_terms(self, floor: Floor, quantity: int, price: int) -> None:
        _, fill = floor.order("BUY 150 @ 1001")
        with pytest.raises(VenueError, match="malformed"):
            correct(floor, fill.exec_id, quantity, price)


class TestOverfill:
    @pytest.mark.parametrize("words", ["BUY 150 @ 1001", "BUY 100 @ 1001", "BUY 10 @ 990"])
    def test_more_than_was_ordered(self, floor: Floor, words: str) -> None:
        ordered = floor.order(words, "mine")[0].quantity
        (report,) = floor.told(floor.venue.overfill("mine", 5, 1000 * CENT, NOW))
        assert (report.exec_type, report.order_status) == ("TRADE", "FILLED")
        assert (report.cum_qty, report.leaves_qty) == (ordered + 5, 0)
        assert floor.trade(1, 500) == [], "it left the book"

    def test_after_a_cancel_the_order_stays_canceled(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 990", "mine")
        floor.cancel("mine")
        (report,) = floor.told(floor.venue.overfill("mine", 1, 990 * CENT, NOW))
        assert (report.order_status, report.cum_qty, report.leaves_qty) == ("CANCELED", 11, 0)

    def test_busted_down_to_the_ordered_quantity_it_stays_filled(self, floor: Floor) -> None:
        floor.order("BUY 100 @ 1001", "mine")
        (over,) = floor.told(floor.venue.overfill("mine", 5, 1000 * CENT, NOW))
        (report,) = bust(floor, over.exec_id)
        assert (report.order_status, report.cum_qty) == ("FILLED", 100)

    def test_of_an_unknown_order(self, floor: Floor) -> None:
        with pytest.raises(VenueError, match="unknown_order"):
            floor.venue.overfill("never", 1, CENT, NOW)


def test_a_stray_fill_is_an_order_that_begins_with_it(floor: Floor) -> None:
    (report,) = floor.told(floor.venue.stray(terms("BUY 7 MARKET", "stray"), 1003 * CENT, NOW))
    assert brief([report]) == ["TRADE stray 7@1003"]
    assert (report.order_status, report.venue_seq, report.exchange_order_id) == ("FILLED", 1, "X1")
    assert numbers(floor, "stray") == ("FILLED", 7, 0, 7 * 1003)
    with pytest.raises(VenueError, match="duplicate"):
        floor.venue.stray(terms("BUY 7 MARKET", "stray"), 1003 * CENT, NOW)


def test_executions_list_busts_and_corrections_so_that_positions_can_be_recomputed(floor: Floor) -> None:
    _, one = floor.order("BUY 30 @ 1001")
    _, two = floor.order("BUY 30 @ 1001")
    correct(floor, one.exec_id, 20, 1000)
    bust(floor, two.exec_id)
    floor.cancel("c-1")
    listed = [msgspec.json.decode(body, type=Report) for _, body in floor.venue.executions_page(0, 100)]
    assert [r.exec_type for r in listed] == ["TRADE", "TRADE", "TRADE_CORRECT", "TRADE_CANCEL"]
    assert floor.venue.executions() == 4
    fills: dict[str, int] = {}
    for report in listed:
        fills[report.exec_ref_id or report.exec_id] = 0 if report.exec_type == "TRADE_CANCEL" else report.last_qty
    assert sum(fills.values()) == 20


class TestHalt:
    def test_new_and_replaced_orders_are_refused_and_cancels_pass(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 990", "rests")
        floor.venue.halt("AAA")
        assert brief(floor.order("BUY 10 @ 1001", "new")) == ["REJECTED new halted"]
        assert brief(floor.replace("rests", None, 991, "changed")) == ["cancel_reject changed halted"]
        assert brief(floor.cancel("rests", "out")) == ["CANCELED out"]

    def test_nothing_trades_until_it_is_resumed(self, floor: Floor) -> None:
        floor.order("BUY 10 @ 1000", "mine")
        floor.venue.halt("AAA")
        assert floor.quote(990, 10, 995, 10) == floor.trade(900, 100) == []
        assert floor.venue.resume("AAA")
        assert brief(floor.quote(990, 10, 995, 10)) == ["TRADE mine 10@1000"]

    def test_after_it_the_market_maker_comes_back_with_its_next_quote(self, floor: Floor) -> None:
        floor.venue.halt("AAA")
        floor.venue.resume("AAA")
        assert brief(floor.order("BUY 10 MARKET", "early")) == ["REJECTED early no_liquidity"]

    def test_other_symbols_go_on(self, floor: Floor) -> None:
        floor.venue.halt("AAA")
        assert brief(floor.order("BUY 10 @ 990", symbol="BBB")) == ["NEW c-1"]

    def test_it_ends_with_its_session(self, floor: Floor) -> None:
        floor.venue.halt("AAA")
        floor.close()
        assert not floor.venue.resume("AAA")
        floor.venue.assign_session(SESSION + 1)
        floor.open()
        assert brief(floor.order("BUY 10 @ 990")) == ["NEW c-1"]

    @pytest.mark.parametrize(("symbol", "is_open", "code"), [("ZZZ", True, "unknown_symbol"), ("AAA", False, "closed")])
    def test_only_what_is_listed_and_trades(self, floor: Floor, symbol: str, is_open: bool, code: str) -> None:
        if not is_open:
            floor.close()
        with pytest.raises(VenueError, match=code):
            floor.venue.halt(symbol)


def test_a_fill_of_another_life_is_known_by_its_own_exec_id(floor: Floor) -> None:
    """The number in an ExecID is the report's; with the session it is one fill and no other."""
    _, fill = floor.order("BUY 150 @ 1001")
    other = f"{SESSION + 1}-{fill.exec_id.partition('-')[2]}"
    with pytest.raises(VenueError, match="unknown_execution"):
        bust(floor, other)
