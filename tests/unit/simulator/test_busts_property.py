"""Whatever happens to fills: an order is the fold of its reports, executions alone give the quantities, the book holds
what is open, and the journal brings the same venue back."""

from __future__ import annotations

import contextlib
from collections import defaultdict

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.journal_memory import MemoryJournal
from exchange_gateway.simulator.messages import Cancel, Numbered, Replace, Report, VenueError
from exchange_gateway.simulator.order import Order
from exchange_gateway.simulator.venue import Venue
from infra.clock import ManualClock
from tests.unit.simulator.made import CENT, LISTED, NOW, SESSION, terms

prices = st.integers(995, 1005)
quantities = st.integers(1, 60)
picks = st.integers(0, 1000)
tifs = st.sampled_from(["DAY", "GTC", "IOC", "FOK"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.sampled_from(["BUY", "SELL"]), quantities, prices, tifs),
        st.tuples(st.just("quote"), prices, quantities, quantities),
        st.tuples(st.just("cancel"), picks),
        st.tuples(st.just("replace"), picks, quantities, prices),
        st.tuples(st.just("bust"), picks),
        st.tuples(st.just("bust"), picks),
        st.tuples(st.just("correct"), picks, quantities, prices),
        st.tuples(st.just("correct"), picks, quantities, prices),
        st.tuples(st.just("overfill"), picks, quantities, prices),
        st.tuples(st.just("stray"), quantities, prices),
        st.tuples(st.sampled_from(["halt", "resume", "session"])),
    ),
    max_size=40,
)


class Played:
    """A venue, and the requests that hypothesis made up. A request that the venue refuses is just refused."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.sent: list[Numbered] = []
        self.desk = Desk(Venue(), DropCopy(), self.journal, self.sent.extend, ManualClock(NOW))
        self.ids = 0
        self.session = SESSION
        self.open()

    def open(self) -> None:
        self.desk.assign_session(self.session, NOW)
        self.desk.open(LISTED, NOW)

    def fresh(self) -> str:
        self.ids += 1
        return f"c-{self.ids}"

    def some(self, pick: int) -> str:
        return f"c-{pick % (self.ids + 1)}"

    def fill(self, pick: int) -> str:
        fills = [n.report.exec_id for n in self.sent if n.report.exec_type == "TRADE"]
        return fills[pick % len(fills)] if fills else ""

    def play(self, step: tuple[object, ...]) -> None:
        with contextlib.suppress(VenueError):
            self._play(step)

    def _play(self, step: tuple[object, ...]) -> None:
        desk = self.desk
        match step:
            case ("order", side, quantity, price, tif):
                desk.submit([terms(f"{side} {quantity} @ {price} {tif}", self.fresh())])
            case ("quote", int(price), int(bid_size), int(ask_size)):
                made = desk.venue.quote("AAA", price * CENT, bid_size, (price + 1) * CENT, ask_size, NOW)
                if made:
                    desk.market(made, NOW)
            case ("cancel", int(pick)):
                desk.cancel(self.some(pick), Cancel(cl_ord_id=self.fresh()))
            case ("replace", int(pick), int(quantity), int(price)):
                request = Replace(cl_ord_id=self.fresh(), quantity=quantity, limit_micros=price * CENT)
                desk.replace(self.some(pick), request)
            case ("bust", int(pick)):
                desk.bust(self.fill(pick))
            case ("correct", int(pick), int(quantity), int(price)):
                desk.correct(self.fill(pick), quantity, price * CENT)
            case ("overfill", int(pick), int(beyond), int(price)):
                desk.overfill(self.some(pick), beyond, price * CENT)
            case ("stray", int(quantity), int(price)):
                desk.stray(terms(f"BUY {quantity} MARKET", self.fresh()), price * CENT)
            case ("halt",):
                desk.halt("AAA")
            case ("resume",):
                desk.resume("AAA")
            case ("session",):
                desk.close(NOW)
                self.session += 1
                self.open()


def remembered(venue: Venue, drop_copy: DropCopy) -> tuple[object, ...]:
    orders = [(o.state(), o.reports, o.ids, o.stamp) for o in venue.page(0, 10_000)]
    return orders, venue.executions_page(0, 10_000), drop_copy.read(0, 10_000), venue.last_n, venue.last_number


@settings(max_examples=150, deadline=None)
@given(steps)
def test_fills_stay_explained(made_up: list[tuple[object, ...]]) -> None:
    played = Played()
    begin: list[tuple[object, ...]] = [("order", "BUY", 60, 1000, "GTC"), ("order", "SELL", 20, 1000, "DAY")]
    for step in (*begin, *made_up):
        played.play(step)
    venue = played.desk.venue
    recomputed: defaultdict[str | None, dict[str, tuple[int, int]]] = defaultdict(dict)
    for _, body in venue.executions_page(0, 10_000):
        report = msgspec.json.decode(body, type=Report)
        terms_now = (0, 0) if report.exec_type == "TRADE_CANCEL" else (report.last_qty, report.last_micros)
        recomputed[report.exchange_order_id][report.exec_ref_id or report.exec_id] = terms_now
    resting = {o.number: o.leaves for side in ("BUY", "SELL") for o in venue._books["AAA"].resting(side)}
    for order in venue.page(0, 10_000):
        state = order.state()
        fills = recomputed[state.exchange_order_id].values()
        assert state.cum_qty == sum(quantity for quantity, _ in fills)
        assert state.cum_notional_micros == sum(quantity * micros for quantity, micros in fills)
        again = Order(order.number, order.terms, order.session)
        for n, body in order.reports:
            again.absorb(Numbered(n, msgspec.json.decode(body, type=Report), body))
        assert again == order
        assert resting.pop(order.number, 0) == (order.open_qty if order.live else 0)
    assert not resting
    restored, drop_copy = Venue(), DropCopy()
    played.journal.restore(restored, drop_copy)
    assert remembered(restored, drop_copy) == remembered(venue, played.desk.drop_copy)
    told = [report.exec_id for entry in played.journal.read_all() for report in entry.reports]
    assert told == [numbered.report.exec_id for numbered in played.sent]
