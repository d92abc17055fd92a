"""Moments as a client writes them, and the bounds of New York's days. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from infra.clock import NS_PER_S
from price_service.domain import reasons
from price_service.domain.parameters import shown
from price_service.domain.reasons import refusal
from price_service.domain.trading_days import NEW_YORK

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# RFC 3339. A "+" that nobody percent-encoded arrives as a space, and cannot mean anything else there.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+\- ])(\d\d:\d\d))", re.ASCII)


def moment_of(raw: str, field: str) -> int:
    """Nanoseconds since the epoch. A date is a day in New York: from its start as `from`, to its end as `to`."""
    try:
        if _DATE.fullmatch(raw):
            day = date.fromisoformat(raw)
            return midnight_ns(day + timedelta(days=1) if field == "to" else day)
        if found := _TIME.fullmatch(raw):
            day_text, time_text, fraction, zulu, sign, offset = found.groups()
            zone = "+00:00" if zulu else f"{'-' if sign == '-' else '+'}{offset}"
            second = datetime.fromisoformat(f"{day_text}T{time_text}{zone}").astimezone(UTC)
            return _seconds(second) * NS_PER_S + int((fraction or "").ljust(9, "0"))
    except (ValueError, OverflowError):
        pass  # such as a thirteenth month: refused like every other text that is no moment
    raise refusal(reasons.TIME_INVALID, field, value=shown(raw))


def day_of(time_ns: int) -> date:
    """The day in New York."""
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).astimezone(ZoneInfo(NEW_YORK)).date()


def midnight_ns(day: date) -> int:
    """When the day begins in New York."""
    return _seconds(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(NEW_YORK))) * NS_PER_S


def _seconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
