"""Trading days against what the exchange published: https://www.nyse.com/markets/hours-calendars."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime

from infra.clock import NS_PER_S
from price_service.domain.trading_days import FIRST, LAST, last_trading_day, session_hours, trading_days


def utc(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * NS_PER_S  # type: ignore[arg-type, misc]


def test_a_week_with_a_holiday() -> None:
    assert trading_days(date(2024, 6, 29), date(2024, 7, 7)) == [date(2024, 7, day) for day in (1, 2, 3, 5)]
    assert trading_days(date(2024, 7, 4), date(2024, 7, 4)) == []
    assert trading_days(date(2024, 7, 5), date(2024, 7, 1)) == []


def test_hours_follow_the_clocks_of_new_york_and_early_closes() -> None:
    assert session_hours(date(2024, 1, 10)) == (utc(2024, 1, 10, 14, 30), utc(2024, 1, 10, 21))
    assert session_hours(date(2024, 7, 2)) == (utc(2024, 7, 2, 13, 30), utc(2024, 7, 2, 20))
    assert session_hours(date(2024, 7, 3)) == (utc(2024, 7, 3, 13, 30), utc(2024, 7, 3, 17))
    assert session_hours(date(2024, 7, 4)) is None


def test_the_last_trading_day_is_the_one_that_has_opened() -> None:
    assert last_trading_day(utc(2024, 7, 5, 13, 29, 59)) == date(2024, 7, 3)
    assert last_trading_day(utc(2024, 7, 5, 13, 30)) == date(2024, 7, 5)
    assert last_trading_day(utc(2024, 7, 7, 12)) == date(2024, 7, 5)
    assert last_trading_day(utc(2013, 1, 1, 12)) == date(2012, 12, 31)


def test_outside_its_years_nothing_is_claimed() -> None:
    assert trading_days(date.min, FIRST) == []
    assert session_hours(date.min) is None
    assert session_hours(date.max) is None
    assert last_trading_day(0) == date(1990, 1, 2)
    assert last_trading_day(2**63 - 1) == trading_days(date(2050, 12, 1), LAST)[-1]


def test_importing_it_loads_no_pandas() -> None:
    code = "import sys, price_service.domain.trading_days; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
