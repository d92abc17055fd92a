"""Money, checks and reasons: tables of cases."""

from __future__ import annotations

import string
from decimal import Decimal
from typing import Any

import pytest

from order_service.domain import checks, reasons
from order_service.domain.money import NotRepresentableError, average_micros, micros_of, text_of
from order_service.domain.reasons import Code, Fault
from order_service.store.refusals import refusal
from tests.unit.order_service.makers import ticket


@pytest.mark.parametrize(
    ("amount", "micros"),
    [("580.25", 580_250_000), ("0.1", 100_000), ("1E+2", 100_000_000), ("0.000001", 1), ("1.1000000000000", 1_100_000)],
)
def test_an_amount_becomes_exact_micros(amount: str, micros: int) -> None:
    assert micros_of(Decimal(amount)) == micros


@pytest.mark.parametrize(
    "amount", ["0.30000000000000004", "0.0000001", "NaN", "Infinity", "-Infinity", "1E+999999", "1E-999999", "1E+13"]
)
def test_an_amount_that_is_not_micros_is_refused(amount: str) -> None:
    with pytest.raises(NotRepresentableError):
        micros_of(Decimal(amount))


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0"), (1, "0.000001"), (100_000, "0.1"), (580_250_000, "580.25"), (100_000_000, "100"), (-1_500_000, "-1.5")],
)
def test_micros_are_written_with_no_more_digits_than_needed(micros: int, text: str) -> None:
    assert text_of(micros) == text
    assert micros_of(Decimal(text)) == micros


@pytest.mark.parametrize(
    ("notional", "quantity", "average"),
    [(10, 4, 2), (14, 4, 4), (11, 4, 3), (9, 4, 2), (580_250_000 * 3, 3, 580_250_000)],
)
def test_the_average_price_rounds_half_to_even(notional: int, quantity: int, average: int) -> None:
    assert average_micros(notional, quantity) == average


GOOD: dict[str, Any] = {
    "order_type": "buy",
    "type_": "LIMIT",
    "symbol": "AAPL",
    "quantity": 10,
    "amount": Decimal("580.25"),
    "tif": "DAY",
}


def test_a_good_request_is_a_ticket() -> None:
    assert checks.ticket(**GOOD) == ticket()
    assert checks.ticket(**{**GOOD, "quantity": 10.0}) == ticket()
    market = checks.ticket(**{**GOOD, "type_": "MARKET", "amount": None})
    assert market == ticket(type="MARKET", amount_micros=None)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"order_type": "BUY"}, "order_type_unknown", "orderType"),
        ({"type_": "LIMITED"}, "type_not_supported", "type"),
        ({"type_": "STOP"}, "type_not_taken_yet", "type"),
        ({"type_": "trailing_stop"}, "type_not_taken_yet", "type"),
        ({"tif": "GTD"}, "time_in_force_not_supported", "timeInForce"),
        ({"quantity": 0}, "quantity_not_positive", "quantity"),
        ({"quantity": -3}, "quantity_not_positive", "quantity"),
        ({"quantity": 1.5}, "quantity_not_whole", "quantity"),
        ({"quantity": float("inf")}, "quantity_not_whole", "quantity"),
        ({"amount": None}, "amount_required", "amount"),
        ({"type_": "MARKET"}, "amount_not_allowed", "amount"),
        ({"amount": Decimal(0)}, "amount_invalid", "amount"),
        ({"amount": Decimal("-1")}, "amount_invalid", "amount"),
        ({"amount": Decimal("NaN")}, "amount_invalid", "amount"),
        ({"amount": Decimal("1e400")}, "amount_invalid", "amount"),
        ({"amount": Decimal("0.30000000000000004")}, "amount_off_tick", "amount"),
    ],
)
def test_what_the_request_itself_gets_wrong(change: dict[str, Any], code: str, field: str) -> None:
    fault = checks.ticket(**{**GOOD, **change})
    assert isinstance(fault, Fault)
    assert (fault.code.code, fault.field) == (code, field)
    assert refusal(fault).text


@pytest.mark.parametrize(
    ("quantity", "amount", "found"),
    [
        (5, None, (5, None)),
        (None, Decimal("1.5"), (None, 1_500_000)),
        (5.0, Decimal(2), (5, 2_000_000)),
        (None, None, "replace_empty"),
        (0, None, "quantity_not_positive"),
        (1.5, None, "quantity_not_whole"),
        (None, Decimal(0), "amount_invalid"),
        (5, Decimal("0.0000001"), "amount_off_tick"),
    ],
)
def test_new_terms(quantity: int | float | None, amount: Decimal | None, found: Any) -> None:
    terms = checks.terms(quantity, amount)
    assert (terms.code.code if isinstance(terms, Fault) else terms) == found


def test_every_code_is_declared_once_and_says_something() -> None:
    declared = [code for code in vars(reasons).values() if isinstance(code, Code)]
    assert len({code.code for code in declared}) == len(declared) == len(reasons.CODES)
    for code in declared:
        assert code.text.endswith((".", ";"))
        names = {name for _, name, _, _ in string.Formatter().parse(code.text + code.fix) if name}
        assert refusal(Fault(code, details=dict.fromkeys(names, "x"))).code == code.code
