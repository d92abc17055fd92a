"""The pre-trade checks: a table of orders and the code that refuses each, with the numbers that decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from order_service.domain import reasons, risk
from order_service.domain.order import Ticket
from order_service.domain.risk import CHECKS, Listing, Question, Quote, Stop
from order_service.store.refusals import refusal
from tests.unit.order_service.makers import NOW_US, RULES, ticket

USD = 1_000_000
LISTING = Listing("AAPL", tick_micros=10_000, lot=1, previous_close_micros=570 * USD)
QUOTE = Quote(580_200_000, 580_300_000, NOW_US)


def question(wanted: Ticket | None = None, rules: dict[str, Any] | None = None, **changes: Any) -> Question:
    values: dict[str, Any] = {
        "ticket": wanted or ticket(),
        "rules": replace(RULES, **{"duplicate_us": 1 * USD, "orders_per_second_max": 100, **(rules or {})}),
        "now_us": NOW_US,
        "listing": LISTING,
        "quote": QUOTE,
        "market_open": True,
        "halted": False,
        "stop": None,
        "account_id": 1,
        "account_active": True,
        "free_cash_micros": 10_000 * USD,
        "free_shares": 100,
        "needed_cash_micros": 5_803 * USD,
        "needed_shares": 0,
        "open_orders": 0,
        "in_second": 0,
        "repeated_us": None,
        "replaces": False,
    }
    return Question(**{**values, **changes})


SELL = ticket(order_type="sell")
MARKET = ticket(type="MARKET", amount_micros=None)
GTC = ticket(tif="GTC")
LOTS = Listing("LOTS", 10_000, 100)
CANCEL_ONLY, REDUCE_ONLY = Stop("cancel_only", "global", "a test"), Stop("reduce_only", "symbol:AAPL", "a test")
SELLING: dict[str, Any] = {"wanted": SELL, "needed_cash_micros": 0, "needed_shares": 10}


@pytest.mark.parametrize(
    "asked",
    [
        question(),
        question(**SELLING),
        question(MARKET),
        question(GTC, market_open=False),
        question(ticket(amount_micros=638_330_000)),  # 10 % above the ask
        question(ticket(order_type="sell", amount_micros=522_180_000)),  # 10 % below the bid
        question(ticket(amount_micros=627 * USD), quote=None),  # 10 % above the previous close
        question(ticket(amount_micros=627 * USD), quote=Quote(0, 0, 0)),
        question(ticket(amount_micros=90_000 * USD), quote=None, listing=Listing("AAPL", 10_000, 1)),
        question(quote=QUOTE._replace(at_us=0)),  # a LIMIT order has its own price
        question(MARKET, quote=QUOTE._replace(at_us=NOW_US - RULES.stale_us)),
        question(**SELLING, stop=REDUCE_ONLY),
        question(stop=REDUCE_ONLY, replaces=True, needed_cash_micros=0),
        question(open_orders=RULES.open_orders_max - 1, in_second=99, repeated_us=USD),
        question(open_orders=10**6, in_second=10**6, replaces=True),
        question(needed_cash_micros=5_803 * USD, free_cash_micros=5_803 * USD),
        question(needed_cash_micros=0, free_cash_micros=-5, replaces=True),
        question(**{**SELLING, "needed_shares": 101}, rules={"short_selling": True}),
    ],
)
def test_what_may_be_placed(asked: Question) -> None:
    assert risk.first(asked) is None
    assert all(fault is None for _, fault in risk.every(asked))


REFUSED: list[tuple[Question, reasons.Code, dict[str, Any]]] = [
    (question(account_active=False), reasons.ACCOUNT_BLOCKED, {"account": 1}),
    (question(listing=None), reasons.SYMBOL_UNKNOWN, {"symbol": "AAPL"}),
    (question(rules={"restricted": frozenset({"AAPL"})}), reasons.SYMBOL_RESTRICTED, {"symbol": "AAPL"}),
    (question(stop=CANCEL_ONLY), reasons.CANCEL_ONLY, {"scope": "global", "reason": "a test"}),
    (question(**SELLING, stop=CANCEL_ONLY), reasons.CANCEL_ONLY, {"scope": "global"}),
    (question(stop=REDUCE_ONLY), reasons.REDUCE_ONLY, {"scope": "symbol:AAPL"}),
    (question(**{**SELLING, "needed_shares": 101}, stop=REDUCE_ONLY), reasons.REDUCE_ONLY, {}),
    (
        question(**{**SELLING, "needed_shares": 101}, stop=REDUCE_ONLY, rules={"short_selling": True}),
        reasons.REDUCE_ONLY,
        {},
    ),
    (question(stop=REDUCE_ONLY, replaces=True, needed_cash_micros=1), reasons.REDUCE_ONLY, {}),
    (question(halted=True), reasons.SYMBOL_HALTED, {"symbol": "AAPL"}),
    (question(market_open=False), reasons.MARKET_CLOSED, {"type": "LIMIT", "timeInForce": "DAY"}),
    (question(replace(MARKET, tif="GTC"), market_open=False), reasons.MARKET_CLOSED, {}),
    (question(ticket(quantity=1_000_001)), reasons.QUANTITY_TOO_LARGE, {"max": 1_000_000}),
    (question(ticket(quantity=10**30)), reasons.QUANTITY_TOO_LARGE, {}),
    (question(ticket(symbol="LOTS", quantity=150), listing=LOTS), reasons.QUANTITY_OFF_LOT, {"lot": 100}),
    (question(ticket(amount_micros=580_255_000)), reasons.AMOUNT_OFF_TICK, {"amount": "580.255", "tick": "0.01"}),
    (question(MARKET, quote=None), reasons.QUOTE_MISSING, {"symbol": "AAPL"}),
    (question(MARKET, quote=Quote(580 * USD, 0, NOW_US)), reasons.QUOTE_MISSING, {}),
    (
        question(MARKET, quote=QUOTE._replace(at_us=NOW_US - 61_500_000)),
        reasons.QUOTE_STALE,
        {"age_s": 61.5, "max_s": 60.0},
    ),
    (
        question(ticket(quantity=100_000, amount_micros=500_010_000)),
        reasons.NOTIONAL_TOO_LARGE,
        {"notional": "50001000", "max": "50000000"},
    ),
    (question(ticket(type="MARKET", amount_micros=None, quantity=100_000)), reasons.NOTIONAL_TOO_LARGE, {}),
    (
        question(ticket(amount_micros=638_340_000)),
        reasons.PRICE_OUTSIDE_COLLAR,
        {"amount": "638.34", "reference": "580.3", "percent": "10", "bound": "638.33"},
    ),
    (
        question(ticket(order_type="sell", amount_micros=522_170_000)),
        reasons.PRICE_OUTSIDE_COLLAR,
        {"amount": "522.17", "reference": "580.2", "bound": "522.18"},
    ),
    (question(ticket(amount_micros=627_010_000), quote=None), reasons.PRICE_OUTSIDE_COLLAR, {"reference": "570"}),
    (question(open_orders=1_000), reasons.OPEN_ORDERS_TOO_MANY, {"open": 1_000, "max": 1_000}),
    (question(in_second=100), reasons.ORDERS_TOO_FAST, {"placed": 100, "max": 100}),
    (question(repeated_us=999_999), reasons.DUPLICATE_ORDER, {"age_ms": 999, "window_ms": 1_000}),
    (
        question(needed_cash_micros=10_000 * USD + 1),
        reasons.BUYING_POWER_SHORT,
        {"needed": "10000.000001", "available": "10000"},
    ),
    (question(free_cash_micros=-1, needed_cash_micros=1), reasons.BUYING_POWER_SHORT, {"available": "-0.000001"}),
    (question(**{**SELLING, "needed_shares": 101}), reasons.SHARES_SHORT, {"needed": "101", "available": 100}),
]


@pytest.mark.parametrize(("asked", "code", "numbers"), REFUSED, ids=[case[1].code for case in REFUSED])
def test_what_is_refused_and_why(asked: Question, code: reasons.Code, numbers: dict[str, Any]) -> None:
    fault = risk.first(asked)
    assert fault is not None
    assert fault.code is code
    assert {name: fault.details[name] for name in numbers} == numbers
    refused = refusal(fault)
    assert refused.details["fix"]
    assert len(refused.text) < 200
    assert code in [check.code for check, found in risk.every(asked) if found is not None]


def test_each_check_has_its_own_code_and_each_is_refused_in_the_table() -> None:
    codes = [check.code for check in CHECKS]
    assert len(set(map(id, codes))) == len(codes)
    assert {code.code for _, code, _ in REFUSED} == {code.code for code in codes}


def test_a_preview_says_of_each_check_what_it_found() -> None:
    found = risk.every(question(MARKET, quote=None, needed_cash_micros=None, market_open=False))
    failed = {check.code.code: fault.code.code for check, fault in found if fault is not None}
    assert failed == {
        "market_closed": "market_closed",
        "quote_missing": "quote_missing",
        "quote_stale": "quote_missing",
        "notional_above_max": "quote_missing",
        "buying_power_insufficient": "quote_missing",
    }


@pytest.mark.parametrize(
    ("ask", "tick", "reserved"),
    [(100_000_000, 10_000, 110_000_000), (580_300_000, 10_000, 638_330_000), (100_010_000, 10_000, 110_020_000)],
)
def test_a_market_buy_reserves_at_the_ask_and_the_collar_rounded_up_to_the_tick(
    ask: int, tick: int, reserved: int
) -> None:
    listing, quote = Listing("AAPL", tick, 1), Quote(1, ask, NOW_US)
    assert risk.reserve_micros(MARKET, quote, listing, RULES) == reserved
    assert risk.reserve_micros(ticket(), quote, listing, RULES) is None
    assert risk.reserve_micros(MARKET, Quote(1, 0, NOW_US), listing, RULES) is None
