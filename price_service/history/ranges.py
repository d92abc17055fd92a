"""Which window of time a request for history means. Pure.

`1m` is a month as a timerange and a minute as an interval, as the HTTP API has it. Days of trading come from the
exchange's calendar; what was traded after the last of them, on a weekend say, is in every range that ends now.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from infra.clock import NS_PER_S
from price_service.domain import reasons
from price_service.domain.parameters import shown
from price_service.domain.points import Window
from price_service.domain.reasons import refusal
from price_service.domain.trading_days import NEW_YORK, last_trading_day, trading_days
from price_service.history.moments import day_of, midnight_ns, moment_of

POINTS_MAX = 10_000
# Seconds are added up from ticks while the client waits.
SECONDS_RANGE_MAX_S = 3600

_MINUTE_S, _DAY_S = 60, 86_400
# Interval → length in seconds.
INTERVALS = {"1s": 1, "1m": _MINUTE_S, "5m": 300, "15m": 900, "1h": 3600, "1d": _DAY_S}
# For from and to: the longest range, in seconds, that an interval suits. Each is at most some 2,900 points.
_SUITS = {"1m": 2 * _DAY_S, "5m": 10 * _DAY_S, "15m": 30 * _DAY_S, "1h": 120 * _DAY_S}


class Range(NamedTuple):
    """How far back a timerange goes, and the interval that suits a chart of it."""

    sessions: int
    months: int
    interval: str


TIMERANGES = {
    "1d": Range(1, 0, "1m"),
    "1w": Range(5, 0, "5m"),
    "1m": Range(0, 1, "1h"),
    "3m": Range(0, 3, "1h"),
    "6m": Range(0, 6, "1d"),
    "1y": Range(0, 12, "1d"),
    "ytd": Range(0, 0, "1d"),
    "max": Range(0, 0, "1d"),
}


class Chosen(NamedTuple):
    """`window` is the whole range; a page that was asked for by cursor ends at `before_ns`."""

    timerange: str | None
    interval: str
    window: Window
    before_ns: int | None = None

    @property
    def page(self) -> Window:
        return self.window if self.before_ns is None else self.window._replace(to_ns=self.before_ns)


def choose(words: Mapping[str, str], now_ns: int) -> Chosen:
    """From `timerange`, or `from` and `to`, and `interval`. Raises Refusal for words that mean nothing, and for a point
    that would be longer than the whole range."""
    timerange, interval = words.get("timerange"), words.get("interval")
    bounded = "from" in words or "to" in words
    if timerange is not None and bounded:
        raise refusal(reasons.RANGE_AMBIGUOUS, "timerange")
    if interval is not None and interval not in INTERVALS:
        raise refusal(reasons.INTERVAL_UNKNOWN, "interval", interval=shown(interval), allowed=", ".join(INTERVALS))
    if bounded:
        from_ns, to_ns = _bounds(words, now_ns)
        wanted = interval or _suitable((to_ns - from_ns) // NS_PER_S)
    else:
        from_ns, to_ns = _since(timerange, now_ns), now_ns + 1
        wanted = interval or TIMERANGES[str(timerange)].interval
    if wanted == "1s" and to_ns - from_ns > SECONDS_RANGE_MAX_S * NS_PER_S:
        raise refusal(reasons.RANGE_TOO_LONG, "interval", interval=wanted, max_s=SECONDS_RANGE_MAX_S)
    if timerange == wanted == "1d":
        raise refusal(reasons.INTERVAL_TOO_LONG, "interval", interval=wanted, timerange=timerange)
    return Chosen(timerange, wanted, window_of(from_ns, to_ns, wanted))


def asks_the_calendar(words: Mapping[str, str]) -> bool:
    """Whether `choose` will ask for days of trading, which takes about a second the first time."""
    known = TIMERANGES.get(words.get("timerange", ""))
    return known is not None and known.sessions > 0


def window_of(from_ns: int, to_ns: int, interval: str) -> Window:
    """Widened to whole buckets: a first point cut off in the middle would have a wrong open and volume."""
    from_ns, to_ns, bucket_ns = max(from_ns, 0), max(to_ns, 0), INTERVALS[interval] * NS_PER_S
    if interval != "1d":
        return Window(from_ns - from_ns % bucket_ns, -(-to_ns // bucket_ns) * bucket_ns, bucket_ns)
    following = midnight_ns(day_of(to_ns - 1) + timedelta(days=1)) if to_ns else 0
    return Window(max(midnight_ns(day_of(from_ns)), 0), following, bucket_ns, NEW_YORK)


def _bounds(words: Mapping[str, str], now_ns: int) -> tuple[int, int]:
    """`to` is now unless it is sent, and never later."""
    if "from" not in words:
        raise refusal(reasons.TIMERANGE_MISSING, "from")
    from_ns = moment_of(words["from"], "from")
    to_ns = moment_of(words["to"], "to") if "to" in words else now_ns + 1
    if from_ns > now_ns:
        raise refusal(reasons.RANGE_IN_FUTURE, "from")
    if from_ns >= to_ns:
        raise refusal(reasons.FROM_AFTER_TO, "from")
    return from_ns, min(to_ns, now_ns + 1)


def _suitable(length_s: int) -> str:
    return next((interval for interval, longest_s in _SUITS.items() if length_s <= longest_s), "1d")


def _since(timerange: str | None, now_ns: int) -> int:
    """When the range begins."""
    if timerange is None:
        raise refusal(reasons.TIMERANGE_MISSING, "timerange")
    if timerange not in TIMERANGES:
        allowed = ", ".join(TIMERANGES)
        raise refusal(reasons.TIMERANGE_UNKNOWN, "timerange", timerange=shown(timerange), allowed=allowed)
    if timerange == "max":
        return 0
    if timerange == "ytd":
        return midnight_ns(date(day_of(now_ns).year, 1, 1))
    back = TIMERANGES[timerange]
    if back.sessions:
        newest = last_trading_day(now_ns)
        return midnight_ns(trading_days(newest - timedelta(days=4 * back.sessions), newest)[-back.sessions :][0])
    return _months_before(now_ns, back.months)


def _months_before(now_ns: int, months: int) -> int:
    """The same time in New York on the same day of an earlier month, or on its last day where it is shorter."""
    moment = datetime.fromtimestamp(now_ns // NS_PER_S, ZoneInfo(NEW_YORK))
    count = moment.year * 12 + moment.month - 1 - months
    year, month = count // 12, count % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return round(moment.replace(year=year, month=month, day=day).timestamp()) * NS_PER_S
