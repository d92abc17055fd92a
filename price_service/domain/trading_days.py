"""The days on which New York's stock exchange (XNYS) trades, and its regular hours on them.

For ranges of history and made-up bars only: whether a venue is open now, its `market-status` says. The days are counted
by the library `exchange_calendars`; the first call of a process loads it (about a second of CPU, with pandas), so a
server calls `load` in a thread before its first request, or any of these in one.
"""

from __future__ import annotations

import bisect
import warnings
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

EXCHANGE = "XNYS"
NEW_YORK = "America/New_York"
# Outside these years nothing is known: the functions below name no day there.
FIRST, LAST = date(1990, 1, 1), date(2050, 12, 31)


class _Sessions(NamedTuple):
    """Day by day, in order; `opens` and `closes` in nanoseconds UTC."""

    days: list[date]
    opens: list[int]
    closes: list[int]


def trading_days(first: date, last: date) -> list[date]:
    """From `first` to `last`, both included, in order."""
    days = _sessions().days
    return days[bisect.bisect_left(days, first) : bisect.bisect_right(days, last)]


def last_trading_day(at_ns: int) -> date:
    """The newest trading day whose regular session had opened at this moment; before FIRST the first one there is."""
    days, opens, _ = _sessions()
    return days[max(bisect.bisect_right(opens, at_ns) - 1, 0)]


def session_hours(day: date) -> tuple[int, int] | None:
    """Open and close of the regular session, nanoseconds UTC, early closes included; None when it is no trading day."""
    days, opens, closes = _sessions()
    at = bisect.bisect_left(days, day)
    return (opens[at], closes[at]) if at < len(days) and days[at] == day else None


def load() -> None:
    """Do now what the first call would do."""
    _sessions()


@lru_cache(maxsize=1)
def _sessions() -> _Sessions:
    # why late: it imports pandas, which costs 0.6 s and tens of megabytes that most processes never need
    import exchange_calendars

    with warnings.catch_warnings():
        # What the library asks of pandas today, pandas 4 will answer in another type: the library's to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar: Any = exchange_calendars.get_calendar(EXCHANGE, start=FIRST, end=LAST)
    days = [moment.date() for moment in calendar.sessions]
    return _Sessions(days, calendar.opens_nanos.tolist(), calendar.closes_nanos.tolist())
