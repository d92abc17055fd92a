"""Which window of time a request for history means. Pure.

`1m` is a month as a timerange and a minute as an interval, as the HTTP API has it.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from infra.clock import NS_PER_S
from price_service.domain import reasons
from price_service.domain.points import Window
from price_service.domain.reasons import refusal

ZONE = "America/New_York"
POINTS_MAX = 10_000
WORD_CHARACTERS_MAX = 12

_MINUTE_S, _DAY_S = 60, 86_400

# Interval → length in seconds.
INTERVALS = {"1m": _MINUTE_S, "5m": 300, "15m": 900, "1h": 3600, "1d": _DAY_S}


class Range(NamedTuple):
    """How far back a timerange goes, and the interval that suits a chart of it."""

    days: int
    months: int
    interval: str


TIMERANGES = {
    "1d": Range(1, 0, "1m"),
    "1w": Range(7, 0, "5m"),
    "1m": Range(0, 1, "1h"),
    "3m": Range(0, 3, "1h"),
    "6m": Range(0, 6, "1d"),
    "1y": Range(0, 12, "1d"),
    "ytd": Range(0, 0, "1d"),
    "max": Range(0, 0, "1d"),
}


class Chosen(NamedTuple):
    timerange: str
    interval: str
    window: Window


def choose(timerange: str, interval: str | None, now_ns: int) -> Chosen:
    """Raises Refusal for words that mean nothing, and for a point that would be longer than the whole range."""
    if timerange not in TIMERANGES:
        raise refusal(
            reasons.TIMERANGE_UNKNOWN, "timerange", timerange=_short(timerange), allowed=", ".join(TIMERANGES)
        )
    if interval is not None and interval not in INTERVALS:
        raise refusal(reasons.INTERVAL_UNKNOWN, "interval", interval=_short(interval), allowed=", ".join(INTERVALS))
    wanted = interval or TIMERANGES[timerange].interval
    if timerange == "1d" and wanted == "1d" and interval is not None:
        raise refusal(reasons.INTERVAL_TOO_LONG, "interval", interval=wanted, timerange=timerange)
    now = datetime.fromtimestamp(now_ns // NS_PER_S, UTC)
    from_ns = _from(timerange, now) * NS_PER_S
    zone = ZONE if wanted == "1d" else None
    bucket_ns = INTERVALS[wanted] * NS_PER_S
    # Whole buckets only: a first point cut off in the middle would have a wrong open and volume.
    from_ns = _midnight(from_ns) if zone else from_ns - from_ns % bucket_ns
    return Chosen(timerange, wanted, Window(from_ns, now_ns + 1, bucket_ns, zone))


def _from(timerange: str, now: datetime) -> int:
    """Unix seconds of the range's start."""
    if timerange == "max":
        return 0
    if timerange == "ytd":
        year = now.astimezone(ZoneInfo(ZONE)).year
        return round(datetime(year, 1, 1, tzinfo=ZoneInfo(ZONE)).timestamp())
    back = TIMERANGES[timerange]
    return round((_months_before(now, back.months) - timedelta(days=back.days)).timestamp())


def _months_before(moment: datetime, months: int) -> datetime:
    """The same day of an earlier month, or its last day where it is shorter."""
    count = moment.year * 12 + moment.month - 1 - months
    year, month = count // 12, count % 12 + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


def _midnight(time_ns: int) -> int:
    day: date = datetime.fromtimestamp(time_ns // NS_PER_S, UTC).astimezone(ZoneInfo(ZONE)).date()
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(ZONE))
    return max(round(start.timestamp()), 0) * NS_PER_S


def _short(word: str) -> str:
    return word if len(word) <= WORD_CHARACTERS_MAX else word[:WORD_CHARACTERS_MAX] + "…"
