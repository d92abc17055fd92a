"""Whatever clients and the tape do, in whatever order: shares and money add up and nobody is treated out of turn."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_gateway.simulator.messages import LIVE, Cancel, NewOrder, Numbered, Replace, Report, VenueError
from exchange_gateway.simulator.order import Order
from exchange_gateway.simulator.venue import Venue
from tests.unit.simulator.made import CENT, LISTED, NOW, SESSION

prices = st.integers(98, 102)
sizes = st.integers(0, 40)
sides = st.sampled_from(["BUY", "SELL"])
targets = st.integers(0, 30)

Step = tuple[object, ...]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("submit"), sides, st.just("GTC"), st.integers(1, 60), prices),
    st.tuples(
        st.just("submit"), sides, st.sampled_from(["DAY", "GTC", "IOC", "FOK"]), st.integers(1, 60), st.none() | prices
    ),
    st.tuples(st.just("cancel"), targets),
    st.tuples(st.just("replace"), targets, st.none() | st.integers(1, 60), st.none() | prices),
    st.tuples(st.just("quote"), prices, sizes, prices, sizes),
    st.tuples(st.just("trade"), prices, st.integers(1, 80)),
    st.tuples(st.just("session")),
)


@dataclass
class Run:
    """A venue that is driven step by step; `reports` is all it said."""

    venue: Venue
    reports: list[Numbered]
    submitted: list[str]
    requests: int = 0

    def step(self, step: Step) -> list[Numbered]:
        made = getattr(self, "_" + str(step[0]))(*step[1:])
        self.reports += made
        return made  # type: ignore[no-any-return]

    def _id(self) -> str:
        self.requests += 1
        return f"r-{self.requests}"

    def _target(self, place: int) -> str:
        return self.submitted[place % len(self.submitted)] if self.submitted else "none"

    def _submit(self, side: str, tif: str, quantity: int, price: int | None) -> list[Numbered]:
        self.submitted.append(self._id())
        values = {
            "cl_ord_id": self.submitted[-1],
            "symbol": "AAA",
            "side": side,
            "ord_type": "LIMIT" if price else "MARKET",
            "tif": tif,
            "quantity": quantity,
            "limit_micros": price * CENT if price else None,
        }
        return self.venue.submit(msgspec.convert(values, NewOrder), NOW)

    def _cancel(self, place: int) -> list[Numbered]:
        return self.venue.cancel(self._target(place), Cancel(cl_ord_id=self._id()), NOW)

    def _replace(self, place: int, quantity: int | None, price: int | None) -> list[Numbered]:
        limit = price * CENT if price else None
        change = Replace(cl_ord_id=self._id(), quantity=quantity, limit_micros=limit)
        return self.venue.replace(self._target(place), change, NOW)

    def _quote(self, bid: int, bid_size: int, ask: int, ask_size: int) -> list[Numbered]:
        if not self.venue.is_open:
            return []
        return self.venue.quote("AAA", bid * CENT, bid_size, ask * CENT, ask_size, NOW)

    def _trade(self, price: int, size: int) -> list[Numbered]:
        return self.venue.trade("AAA", price * CENT, size, NOW) if self.venue.is_open else []

    def _session(self) -> list[Numbered]:
        if self.venue.is_open:
            return self.venue.close(NOW)
        self.venue.assign_session(self.venue.session + 1)
        return self.venue.open(LISTED, NOW)


def started() -> Run:
    venue = Venue()
    venue.assign_session(SESSION)
    return Run(venue, venue.open(LISTED, NOW), [])


runs = st.lists(STEPS, min_size=5, max_size=60)


@given(runs)
@settings(max_examples=150, deadline=None)
def test_shares_and_numbers_add_up(steps: list[Step]) -> None:
    run = started()
    for step in steps:
        before = {o.number: (o.cum_qty, o.limit_micros) for o in run.venue.page(0, 1000)}
        made = run.step(step)
        _check_conserved(step, before, [n.report for n in made])
    orders = {f"X{o.number}": o for o in run.venue.page(0, 1000)}
    assert [n.n for n in run.reports] == list(range(1, len(run.reports) + 1))
    assert len({n.report.exec_id for n in run.reports}) == len(run.reports)
    told: defaultdict[str, list[Report]] = defaultdict(list)
    for numbered in run.reports:
        if numbered.report.exchange_order_id:
            told[numbered.report.exchange_order_id].append(numbered.report)
    assert set(told) == set(orders)
    for name, reports in told.items():
        state = orders[name].state()
        assert [r.venue_seq for r in reports] == list(range(1, len(reports) + 1))
        assert sum(r.last_qty for r in reports) == state.cum_qty <= max(state.quantity, 0)
        assert sum(r.last_qty * r.last_micros for r in reports) == state.cum_notional_micros
        for report in reports:
            assert report.leaves_qty == (report.quantity - report.cum_qty if report.order_status in LIVE else 0)
            assert (report.order_status == "FILLED") == (report.cum_qty == report.quantity)


def _check_conserved(step: Step, before: dict[int, tuple[int, int | None]], reports: list[Report]) -> None:
    """No fill is worse than its limit, and a step moves as many shares to clients as it takes from them, up to what
    the market maker or the print had."""
    moved: Counter[str] = Counter()
    for report in reports:
        if report.exec_type != "TRADE":
            continue
        assert report.last_qty > 0
        assert report.side is not None
        moved[report.side] += report.last_qty
        if report.limit_micros is not None:
            worse = report.last_micros - report.limit_micros
            assert worse <= 0 if report.side == "BUY" else worse >= 0
    if step[0] == "trade":
        assert sum(moved.values()) <= int(str(step[2]))
        assert 0 in (moved["BUY"], moved["SELL"]), "a print fills one side only"
        assert int(str(step[1])) * CENT not in [r.last_micros for r in reports], "a print at the limit fills nobody"
    if step[0] == "quote":
        assert moved["SELL"] <= int(str(step[2]))
        assert moved["BUY"] <= int(str(step[4]))
    if step[0] == "session":
        assert moved["BUY"] == moved["SELL"], "at the open clients meet clients"


@given(runs)
@settings(max_examples=150, deadline=None)
def test_the_book_is_never_crossed_and_nobody_is_overtaken(steps: list[Step]) -> None:
    run = started()
    for step in steps:
        made = run.step(step)
        if not run.venue.is_open:
            continue
        live = [o for o in run.venue.page(0, 1000) if o.live]
        buys, sells = ([o.limit_micros or 0 for o in live if o.terms.side == side] for side in ("BUY", "SELL"))
        if buys and sells:
            assert max(buys) < min(sells), "two clients who agree have met"
        if step[0] != "session":
            _check_turns(run.venue, live, [n.report for n in made])


def _rank(order: Order) -> tuple[int, int]:
    """Who is served first: the greater one."""
    assert order.limit_micros is not None
    return order.limit_micros * (1 if order.terms.side == "BUY" else -1), -order.stamp


def _check_turns(venue: Venue, live: list[Order], reports: list[Report]) -> None:
    """Every resting order that this step filled was ahead of all on its side who still wait."""
    incoming = reports[0].exchange_order_id if reports and reports[0].exec_type != "TRADE" else None
    for report in reports:
        if report.exec_type != "TRADE" or report.exchange_order_id == incoming:
            continue
        filled = venue.find(report.cl_ord_id)
        assert filled
        waiting = [o for o in live if o.terms.side == report.side and o is not filled]
        assert all(_rank(filled) > _rank(other) for other in waiting)


@given(runs)
@settings(max_examples=100, deadline=None)
def test_the_same_inputs_give_the_same_bytes(steps: list[Step]) -> None:
    told = []
    for _ in range(2):
        run = started()
        for step in steps:
            run.step(step)
        told.append([n.frame() for n in run.reports])
    assert told[0] == told[1]


@given(runs)
@settings(max_examples=100, deadline=None)
def test_reports_alone_rebuild_every_order(steps: list[Step]) -> None:
    """The fold that a restart relies on; the rebuilt venue then goes on as the first one does."""
    run = started()
    for step in steps:
        run.step(step)
    again = Run(Venue(), list(run.reports), list(run.submitted), run.requests)
    for order in run.venue.page(0, 1000):
        again.venue.enter_again(order.number, order.terms, order.session)
    for numbered in run.reports:
        assert again.venue.absorb_again(numbered)
    again.venue.settle(run.venue.session, run.venue.last_n, run.venue.last_number)
    assert [o.state() for o in again.venue.page(0, 1000)] == [o.state() for o in run.venue.page(0, 1000)]
    assert again.venue.executions_page(0, 1000) == run.venue.executions_page(0, 1000)
    for one in (run, again):
        if one.venue.is_open:
            one.step(("session",))
        one.venue.expire_day_orders(NOW)
        one.step(("session",))
    fresh: list[Step] = [("submit", "BUY", "GTC", 1000, 102), ("submit", "SELL", "GTC", 1000, 98)]
    assert [again.step(s) for s in fresh] == [run.step(s) for s in fresh]


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=10))
def test_a_client_order_id_works_once(names: list[str]) -> None:
    run = started()
    taken: list[str] = []
    for name in names:
        order = NewOrder(
            cl_ord_id=name, symbol="AAA", side="BUY", ord_type="LIMIT", tif="GTC", quantity=1, limit_micros=CENT
        )
        with contextlib.suppress(VenueError):
            run.venue.submit(order, NOW)
            taken.append(name)
    assert taken == list(dict.fromkeys(names))
