"""The reading side of the price store in memory: the twin of the history's PostgreSQL files.

Nothing is rolled up here: every answer is added up from minutes (seconds: from ticks), so it says what is right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from infra.clock import NS_PER_S
from infra.contracts import Instrument, Trade
from price_service.domain import likeness
from price_service.domain.bars import Bar
from price_service.domain.days import DayKey
from price_service.domain.points import About, Action, Found, Point, Window
from price_service.store.records import Received


class MemoryHistory:
    """Over the dictionaries of `MemoryPrices`. Seconds are added up from those ticks that are still kept."""

    ticks: Collection[Received]
    bars: Mapping[str, Mapping[int, Bar]]
    _instruments: Mapping[str, Instrument]
    _days: Collection[DayKey]

    def __init__(self) -> None:
        self.actions: dict[str, list[Action]] = {}
        self.synthetic_before_ns: dict[str, int] = {}

    async def points(self, symbol: str, window: Window, points_max: int) -> list[Point]:
        bars = self._seconds(symbol, window) if window.bucket_ns == NS_PER_S else self.bars.get(symbol, {})
        made: dict[int, Point] = {}
        for time_ns, bar in sorted(bars.items()):
            if window.from_ns <= time_ns < window.to_ns:
                start = _bucket(time_ns, window)
                made[start] = made[start].followed_by(bar) if start in made else Point.of(start, bar)
        return list(made.values())[-points_max:]

    async def about(self, symbol: str) -> About:
        known = symbol in self._instruments or any(key.symbol == symbol for key in self._days)
        return About(known, self.synthetic_before_ns.get(symbol), self.actions.get(symbol, []))

    async def search(self, text: str, found_max: int, traded_since_ns: int) -> list[Found]:
        typed = text.upper()
        ranked: list[tuple[int, int, Found]] = []
        for symbol, instrument in self._instruments.items():
            if (rank := likeness.rank(typed, symbol, instrument.name)) is not None:
                bars = self.bars.get(symbol, {}).items()
                traded = sum(bar.notional_micros for start_ns, bar in bars if start_ns >= traded_since_ns)
                ranked.append((rank, -traded, Found(symbol, instrument.name)))
        return [each for _, _, each in sorted(ranked)][:found_max]

    async def keep_actions(self, actions: Sequence[tuple[str, Action]]) -> None:
        for symbol, action in actions:
            held = {(each.ex_date, each.kind): each for each in self.actions.get(symbol, [])}
            held[action.ex_date, action.kind] = action
            self.actions[symbol] = [held[key] for key in sorted(held)]

    def _seconds(self, symbol: str, window: Window) -> dict[int, Bar]:
        bars: dict[int, Bar] = {}
        for received in self.ticks:
            tick = received.tick
            if isinstance(tick, Trade) and tick.s == symbol and window.from_ns <= tick.t < window.to_ns:
                start = tick.t - tick.t % NS_PER_S
                bars.setdefault(start, Bar(symbol, start)).add(tick)
        return bars


def _bucket(start_ns: int, window: Window) -> int:
    if window.zone is None:
        return start_ns - start_ns % window.bucket_ns
    local = datetime.fromtimestamp(start_ns // NS_PER_S, UTC).astimezone(ZoneInfo(window.zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return round(midnight.timestamp()) * NS_PER_S
