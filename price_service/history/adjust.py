"""Prices as they compare with today's: corporate actions applied to points. Pure and exact.

A point's ratio is the product of the ratios of all actions after it, kept as a fraction and rounded once, half up to a
micro (sizes: to a share). A bucket never spans an ex-date: those are midnights in New York, where buckets begin too.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from price_service.domain.points import Action, Point, Shown
from price_service.history.moments import midnight_ns

SPLIT = "split"
_ONE = Fraction(1)


def shown(points: Sequence[Point], actions: Sequence[Action] = ()) -> list[Shown]:
    """The points (ascending) for a client, adjusted by these actions."""
    if not actions:
        return [_raw(point) for point in points]
    bounds = sorted({0, *(midnight_ns(action.ex_date) for action in actions), 1 << 63})
    found: list[Shown] = []
    at = 0
    for begins, ends in pairwise(bounds):
        prices, sizes = _ratios(actions, begins)
        while at < len(points) and points[at].time_ns < ends:
            found.append(_adjusted(points[at], prices, sizes))
            at += 1
    return found


def _ratios(actions: Sequence[Action], begins_ns: int) -> tuple[Fraction, Fraction]:
    """For what was traded from here until the next ex-date: prices times the first, sizes divided by the second."""
    prices = sizes = _ONE
    for action in actions:
        if midnight_ns(action.ex_date) > begins_ns:
            ratio = Fraction(action.price_numerator, action.price_denominator)
            prices *= ratio
            sizes *= ratio if action.kind == SPLIT else 1
    return prices, sizes


def _raw(point: Point) -> Shown:
    return Shown(*point[:-1], point.vwap_micros)


def _adjusted(point: Point, prices: Fraction, sizes: Fraction) -> Shown:
    up, down = prices.numerator, prices.denominator
    opened, high, low, close = (
        None if price is None else _half_up(price * up, down)
        for price in (point.open, point.high, point.low, point.close)
    )
    vwap = _half_up(point.notional_micros * up, point.volume * down) if point.volume else None
    volume = _half_up(point.volume * sizes.denominator, sizes.numerator)
    return Shown(point.time_ns, opened, high, low, close, volume, point.trades, vwap)


def _half_up(part: int, whole: int) -> int:
    return (2 * part + whole) // (2 * whole)
