"""PlaceOrder, ReplaceOrder and CancelOrder, decided on loaded state: what is recorded, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.contracts import Command, cl_ord_id, decode
from order_service.domain import facts
from order_service.domain.ledger import Balance
from order_service.domain.lifecycle import Event
from order_service.domain.order import Order, Outcome, Pending
from order_service.domain.reasons import Fault
from order_service.domain.risk import Rules
from order_service.placing import cancel, place
from order_service.placing import replace as replacing
from order_service.placing.cancel import CancelOrder
from order_service.placing.market import Market
from order_service.placing.place import Done, PlaceOrder
from order_service.placing.replace import ReplaceOrder
from order_service.store.unit import Account, Unit
from tests.unit.order_service.makers import INVESTOR, NOW_US, OTHER, RULES, market, new_ids, quoted, request

USD = 1_000_000
IDS = new_ids()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def unit(cash: int = 100_000 * USD, shares: int = 100, **changes: Any) -> Unit:
    account = Account(1, cash=Balance(cash), **changes)
    return Unit(accounts={1: account}, positions={(1, "AAPL"): Balance(shares)})


def put(into: Unit, wanted: PlaceOrder, now_us: int = NOW_US, of: Market | None = None, rules: Rules = RULES) -> Order:
    done = place.decide(into, wanted, of or market(), rules, now_us, IDS)
    assert isinstance(done, Done), done
    return done.order


def refused(
    into: Unit, wanted: PlaceOrder, now_us: int = NOW_US, rules: Rules = RULES, of: Market | None = None
) -> str:
    fault = place.decide(into, wanted, of or market(), rules, now_us, IDS)
    assert isinstance(fault, Fault), fault
    return fault.code.code


def commands(of: Unit) -> list[Command]:
    return [decode(Command, row.payload.encode()) for row in of.outbox if row.aggregatetype == "orders"]


def test_an_order_reserves_what_it_may_cost() -> None:
    loaded = unit(earlier_shares=300_000)
    rules = replace(RULES, fees=replace(RULES.fees, tiers=((0, 5_000), (300_000, 3_500))))
    order = put(loaded, request(IDS), rules=rules)
    assert (order.fee_per_share_micros, order.fee_min_micros) == (3_500, USD)
    assert loaded.accounts[1].cash == Balance(100_000 * USD - 5_803_500_000, 5_803_500_000)
    assert (loaded.accounts[1].open_orders, loaded.accounts[1].in_second) == (1, 1)


def test_a_sell_reserves_its_shares_and_no_more_than_there_are() -> None:
    loaded = unit(shares=15)
    put(loaded, request(IDS, order_type="sell"))
    assert loaded.position(1, "AAPL") == Balance(5, 10)
    assert refused(loaded, request(IDS, order_type="sell")) == "shares_insufficient"
    put(loaded, request(IDS, order_type="sell", quantity=5))


def test_orders_of_one_batch_share_the_buying_power() -> None:
    loaded = unit(cash=12_000 * USD)
    put(loaded, request(IDS))
    put(loaded, request(IDS))
    assert refused(loaded, request(IDS)) == "buying_power_insufficient"


@pytest.mark.parametrize(
    ("changes", "after_us", "reserve"),
    [
        ({}, None, None),
        ({"tif": "GTC"}, None, None),
        ({"tif": "IOC"}, NOW_US + 30 * USD, None),
        ({"tif": "FOK"}, NOW_US + 30 * USD, None),
        ({"type": "MARKET", "amount_micros": None}, NOW_US + 30 * USD, 638_330_000),
        ({"type": "MARKET", "amount_micros": None, "order_type": "sell"}, NOW_US + 30 * USD, None),
    ],
)
def test_until_when_it_may_be_sent_and_what_a_market_buy_reserves(
    changes: dict[str, Any], after_us: int | None, reserve: int | None
) -> None:
    loaded = unit()
    order = put(loaded, request(IDS, **changes))
    (command,) = commands(loaded)
    assert (order.not_after_us, order.reserve_micros) == (after_us, reserve)
    assert command.not_after_ns == (None if after_us is None else after_us * 1000)


def test_a_key_is_recognised_whatever_became_of_the_market_and_the_account() -> None:
    loaded = unit()
    first = put(loaded, request(IDS, key="k"))
    loaded.accounts[1].status = "blocked"
    again = place.decide(loaded, request(IDS, key="k"), Market(), RULES, NOW_US, IDS)
    assert again == Done(first, replayed=True)
    assert refused(loaded, request(IDS, key="k", quantity=11)) == "idempotency_key_reused"
    assert refused(loaded, request(IDS, key="other")) == "account_blocked"
    assert refused(loaded, request(IDS, key="third"), of=Market()) == "market_unknown"


def test_the_same_order_at_once_is_a_slip_unless_a_key_says_otherwise() -> None:
    loaded, rules = unit(), replace(RULES, duplicate_us=USD)
    put(loaded, request(IDS), rules=rules)
    assert refused(loaded, request(IDS), NOW_US + USD - 1, rules) == "duplicate_order"
    put(loaded, request(IDS, key="k"), NOW_US + 5, rules=rules)
    put(loaded, request(IDS, quantity=11), NOW_US + 5, rules=rules)
    put(loaded, request(IDS), NOW_US + 5 + USD, rules=rules)
    assert refused(loaded, request(IDS), NOW_US, rules) == "duplicate_order"  # another process, its clock behind
    for number in range(20):
        put(loaded, request(IDS, key=f"k{number}", quantity=1), rules=rules)
    assert len(loaded.accounts[1].recent) == place.RECENT_MAX


def test_orders_of_a_second_are_counted_by_the_latest_clock() -> None:
    loaded, rules = unit(), replace(RULES, orders_per_second_max=2)
    put(loaded, request(IDS, quantity=1), rules=rules)
    put(loaded, request(IDS, quantity=2), NOW_US + USD - 1, rules=rules)
    assert refused(loaded, request(IDS, quantity=3), NOW_US + 1, rules) == "orders_per_second_above_max"
    put(loaded, request(IDS, quantity=3), NOW_US + USD, rules=rules)
    put(loaded, request(IDS, quantity=4), NOW_US, rules=rules)
    assert refused(loaded, request(IDS, quantity=5), NOW_US, rules) == "orders_per_second_above_max"


def test_a_preview_records_nothing() -> None:
    loaded = unit()
    asked = place.preview(loaded, request(IDS), market(), RULES, NOW_US)
    assert not isinstance(asked, Fault)
    assert not loaded.changed
    assert loaded.accounts[1] == Account(1, cash=Balance(100_000 * USD))
    assert asked.question.needed_cash_micros == 5_803_500_000


# -- replace and cancel ------------------------------------------------------------------------------------------------


def asked(
    into: Unit, order: Order, quantity: int | None = None, amount: int | None = None, of: Market | None = None
) -> Done | Fault:
    wanted = ReplaceOrder(INVESTOR, order.id, quantity, amount, TRACE)
    return replacing.decide(into, wanted, of or market(), RULES, NOW_US + 1, IDS)


def code(decided: Done | Fault) -> str:
    assert isinstance(decided, Fault), decided
    return decided.code.code


def test_a_replace_reserves_the_larger_and_asks_the_exchange() -> None:
    loaded = unit()
    order = put(loaded, request(IDS))
    held = loaded.accounts[1].cash.reserved
    done = asked(loaded, order, quantity=20)
    assert isinstance(done, Done)
    after = done.order
    assert (after.pending, after.requests, after.quantity, after.asked_quantity) == (Pending.REPLACE, 2, 10, 20)
    assert (after.asked_micros, after.version) == (580_250_000, 2)
    assert loaded.accounts[1].cash.reserved == held + 10 * 580_250_000
    command = commands(loaded)[-1]
    assert (command.kind, command.quantity, command.limit_micros) == ("replace", 20, 580_250_000)
    assert (command.cl_ord_id, command.orig_cl_ord_id) == (cl_ord_id(order.id, 2), cl_ord_id(order.id, 1))
    assert [event.type for event in loaded.events] == ["OrderPlaced", "OrderReplaceRequested"]


def test_a_replace_keeps_what_it_does_not_name_and_less_needs_nothing_more() -> None:
    loaded = unit(cash=5_805 * USD)
    order = put(loaded, request(IDS))
    done = asked(loaded, order, amount=580_200_000)
    assert isinstance(done, Done)
    assert (done.order.asked_quantity, done.order.asked_micros) == (10, 580_200_000)
    assert loaded.accounts[1].cash == Balance(5_805 * USD - 5_803_500_000, 5_803_500_000)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"quantity": 10}, "replace_without_change"),
        ({"quantity": 10, "amount": 580_250_000}, "replace_without_change"),
        ({"amount": 580_255_000}, "amount_off_tick"),
        ({"amount": 700_000_000}, "price_outside_collar"),
        ({"quantity": 2_000_000}, "quantity_above_max"),
        ({"quantity": 1_000}, "buying_power_insufficient"),
    ],
)
def test_new_terms_are_checked_like_an_order(terms: dict[str, Any], expected: str) -> None:
    loaded = unit()
    order = put(loaded, request(IDS))
    before = len(loaded.outbox)
    assert code(asked(loaded, order, **terms)) == expected
    assert len(loaded.outbox) == before


def test_what_cannot_be_replaced() -> None:
    loaded = unit()
    at_market = put(loaded, request(IDS, type="MARKET", amount_micros=None))
    assert code(asked(loaded, at_market, quantity=5)) == "replace_of_market"
    filled = put(loaded, request(IDS))
    report = facts.Report(event=Event.TRADED, traded_qty=4, traded_notional_micros=4 * 580 * USD, venue_seq=1)
    loaded.loaded(facts.apply(filled, report, NOW_US))
    for quantity in (3, 4):
        assert code(asked(loaded, filled, quantity=quantity)) == "replace_too_late"
    parked = put(loaded, request(IDS))
    loaded.loaded(replace(parked, outcome=Outcome.PARKED))
    assert code(asked(loaded, parked, quantity=5)) == "order_parked"
    ended = put(loaded, request(IDS))
    loaded.loaded(facts.apply(ended, facts.Report(event=Event.CANCELED, venue_seq=1), NOW_US))
    assert code(asked(loaded, ended, quantity=5)) == "order_final"
    theirs = ReplaceOrder(OTHER, filled.id, 5, None, TRACE)
    assert code(replacing.decide(loaded, theirs, market(), RULES, NOW_US, IDS)) == "order_not_found"


def test_one_request_at_a_time_is_on_its_way() -> None:
    loaded = unit()
    first, second = put(loaded, request(IDS)), put(loaded, request(IDS, quantity=11))
    asked(loaded, first, quantity=5)
    cancelled(loaded, second)
    assert code(asked(loaded, first, quantity=6)) == "replace_pending"
    assert code(cancelled(loaded, first)) == "replace_pending"
    assert code(asked(loaded, second, quantity=6)) == "cancel_pending"
    assert code(cancelled(loaded, second)) == "cancel_pending"


def cancelled(into: Unit, order: Order) -> Done | Fault:
    return cancel.decide(into, CancelOrder(INVESTOR, order.id, TRACE), NOW_US + 1, IDS)


def test_a_cancel_passes_whatever_else_is_forbidden() -> None:
    loaded = unit()
    order = put(loaded, request(IDS))
    loaded.accounts[1].status = "blocked"
    loaded.loaded(replace(order, outcome=Outcome.PARKED))
    done = cancelled(loaded, order)
    assert isinstance(done, Done)
    assert done.order.pending is Pending.CANCEL
    assert commands(loaded)[-1].kind == "cancel"


def test_new_terms_follow_the_market_too() -> None:
    loaded = unit()
    day, gtc = put(loaded, request(IDS)), put(loaded, request(IDS, tif="GTC"))
    closed = market(open=False)
    assert code(asked(loaded, day, quantity=5, of=closed)) == "market_closed"
    assert isinstance(asked(loaded, gtc, quantity=5, of=closed), Done)
    assert code(asked(loaded, day, quantity=5, of=market(halts={"AAPL": 1}))) == "symbol_halted"
    assert code(asked(loaded, day, quantity=5, of=Market())) == "market_unknown"
    far = market(quoted(400 * USD, 401 * USD))
    assert code(asked(loaded, day, quantity=5, of=far)) == "price_outside_collar"
