"""Made-up bars that lead to a symbol's previous close, so that charts are not empty on a first day. Pure: the same
symbol, close and days give the same bars.

Two years of days; the newest of them also as minutes of the regular hours, of which their hours and days are the sum. A
walk goes backward from the previous close, by 1-2 % a day; within a day it goes from open to close along a bridge, and
volume is highest near both. Integers throughout: prices are micros, moves are basis points.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from random import Random
from typing import NamedTuple

from infra.contracts import Instrument
from price_service.domain.bars import MINUTE_NS

DAYS, DAYS_WITH_MINUTES = 504, 30
HOUR_NS = 60 * MINUTE_NS
_BP = 10_000


class Hours(NamedTuple):
    """A day's regular session, and the midnight in New York that it is filed under. Nanoseconds UTC."""

    midnight_ns: int
    open_ns: int
    close_ns: int


class Candle(NamedTuple):
    """Prices in micros; `notional_micros` is the sum of price × size."""

    start_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int
    notional_micros: int


class MadeUp(NamedTuple):
    """In order of time. `until_ns` is when the last of it ends."""

    symbol: str
    until_ns: int
    minutes: list[Candle]
    hours: list[Candle]
    days: list[Candle]


class _Nature(NamedTuple):
    """What a symbol is like: sizes of a day's move (basis points) and of its volume (shares)."""

    move_bp: int
    volume: int


def made_up(instrument: Instrument, sessions: Sequence[Hours], random: Random) -> MadeUp:
    """Bars of these sessions (oldest first, at least one); the last close is the listing's previous close (above 0)."""
    tick, last = max(instrument.tick_micros, 1), instrument.previous_close_micros
    nature = _nature(last, random)
    closes = _closes(last, len(sessions) + 1, tick, nature, random)
    days: list[Candle] = []
    minutes: list[Candle] = []
    hours: list[Candle] = []
    coarse = max(len(sessions) - DAYS_WITH_MINUTES, 0)
    for at, (session, (before, close)) in enumerate(zip(sessions, pairwise(closes), strict=True)):
        opened = _moved(before, random.randint(-nature.move_bp, nature.move_bp) // 3, tick)
        volume = max(nature.volume * random.randint(60, 160) // 100, 1)
        if at < coarse:
            days.append(_day(session.midnight_ns, opened, close, volume, tick, nature, random))
            continue
        made = _minutes(session, opened, close, volume, tick, nature, random)
        minutes += made
        hours += [
            summed(start, list(part)) for start, part in groupby(made, lambda m: m.start_ns - m.start_ns % HOUR_NS)
        ]
        days.append(summed(session.midnight_ns, made))
    return MadeUp(instrument.symbol, sessions[-1].close_ns, minutes, hours, days)


def summed(start_ns: int, parts: Sequence[Candle]) -> Candle:
    """Candles in order of time as one, by the rule of every bar of ours."""
    return Candle(
        start_ns,
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        sum(part.volume for part in parts),
        sum(part.trades for part in parts),
        sum(part.notional_micros for part in parts),
    )


def _nature(price: int, random: Random) -> _Nature:
    dollars = random.choice((50, 100, 200, 500, 1000)) * random.randint(80, 120) * 10_000
    return _Nature(random.randint(90, 170), max(dollars * 1_000_000 // price, 1_000))


def _closes(last: int, count: int, tick: int, nature: _Nature, random: Random) -> list[int]:
    """A walk that ends at `last`. The sum of four even draws is nearly normal, with 1.15 × `move_bp` as its spread."""
    closes = [last]
    while len(closes) < count:
        moved_bp = sum(random.randint(-nature.move_bp, nature.move_bp) for _ in range(4))
        closes.append(_on_tick(closes[-1] * _BP // (_BP + moved_bp), tick))
    return closes[::-1]


def _day(start_ns: int, opened: int, close: int, volume: int, tick: int, nature: _Nature, random: Random) -> Candle:
    reach = opened * nature.move_bp // _BP
    return _candle(start_ns, opened, close, reach, volume, tick, random)


def _minutes(
    session: Hours, opened: int, close: int, volume: int, tick: int, nature: _Nature, random: Random
) -> list[Candle]:
    count = (session.close_ns - session.open_ns) // MINUTE_NS
    # The steps of a day add up to about its move: their number's root, about 20, times the spread of an even draw.
    step = max(opened * nature.move_bp // _BP // 12, 1)
    walk = list(accumulate((random.randint(-step, step) for _ in range(count)), initial=0))
    path = [_on_tick(opened + walk[i] + (close - opened - walk[-1]) * i // count, tick) for i in range(count)]
    # Three times as much near the open and the close as at noon.
    weights = [count * count + 2 * (2 * i - count) ** 2 for i in range(count)]
    share = volume * _BP // sum(weights)
    return [
        _candle(
            session.open_ns + i * MINUTE_NS,
            before,
            after,
            step,
            max(share * weights[i] * random.randint(50, 150) // (100 * _BP), 1),
            tick,
            random,
        )
        for i, (before, after) in enumerate(pairwise([*path, close]))
    ]


def _candle(start_ns: int, opened: int, close: int, reach: int, volume: int, tick: int, random: Random) -> Candle:
    """High and low are up to `reach` beyond open and close. The volume traded at the mean of the four prices."""
    above, below = max(opened, close) + random.randint(0, reach), min(opened, close) - random.randint(0, reach)
    high = max(above - above % tick, opened, close)
    low = min(max(below + -below % tick, tick), opened, close)
    return Candle(
        start_ns,
        opened,
        high,
        low,
        close,
        volume,
        max(volume // random.randint(80, 160), 1),
        volume * ((opened + high + low + close) // 4),
    )


def _moved(price: int, by_bp: int, tick: int) -> int:
    return _on_tick(price * (_BP + by_bp) // _BP, tick)


def _on_tick(price: int, tick: int) -> int:
    return max(price - price % tick, tick)
