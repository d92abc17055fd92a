"""Exact money: integers of micros (1e-6 USD) inside, Decimal at the edges. No float touches a price."""

from __future__ import annotations

from decimal import Decimal

MICROS_PER_UNIT = 1_000_000
MICRO_DIGITS = 6
# An amount above this is not a price of anything; the bound also keeps `1e999999999` from becoming a huge integer.
AMOUNT_MAX = Decimal(10**12)


class NotRepresentableError(ValueError):
    """The amount has more than six decimal places, or is no amount at all."""


def micros_of(amount: Decimal) -> int:
    """The amount in micros, exactly. Raises NotRepresentableError instead of rounding."""
    if not amount.is_finite() or abs(amount) > AMOUNT_MAX:
        raise NotRepresentableError(f"{amount} is not an amount of money")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -MICRO_DIGITS:
        amount = _without_trailing_zeros(amount)
    return int(amount.scaleb(MICRO_DIGITS))


def _without_trailing_zeros(amount: Decimal) -> Decimal:
    sign, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0") or "0"
    exponent += len(digits) - len(text) if text != "0" else -exponent
    if exponent < -MICRO_DIGITS:
        raise NotRepresentableError(f"{amount} has more than {MICRO_DIGITS} decimal places")
    return Decimal((sign, tuple(map(int, text)), exponent))


def text_of(micros: int) -> str:
    """The amount as a JSON number with no more digits than it needs: 100000 is 0.1, 580250000 is 580.25."""
    whole, rest = divmod(abs(micros), MICROS_PER_UNIT)
    sign = "-" if micros < 0 else ""
    return f"{sign}{whole}.{rest:06d}".rstrip("0") if rest else f"{sign}{whole}"


def average_micros(cum_notional_micros: int, cum_qty: int) -> int:
    """AvgPx (FIX tag 6) from what is stored, rounded half to even at the sixth decimal place; for showing only."""
    quotient, rest = divmod(cum_notional_micros, cum_qty)
    twice = 2 * rest
    return quotient + (twice > cum_qty or (twice == cum_qty and quotient % 2 == 1))
