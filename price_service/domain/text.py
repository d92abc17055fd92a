"""Exact numbers and times as JSON text. No float is made on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from infra.clock import NS_PER_MS, NS_PER_S

_MICROS, _CENT = 1_000_000, 10_000


def decimal(micros: int) -> str:
    """Micros as a JSON number: at least two decimals, at most six, exact."""
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    whole, rest = divmod(micros, _MICROS)
    if rest % _CENT == 0:
        return f"{sign}{whole}.{rest // _CENT:02d}"
    return f"{sign}{whole}." + f"{rest:06d}".rstrip("0")


def percent(part: int, whole: int) -> str:
    """`part` in percent of `whole` as a JSON number with four decimals, rounded half away from zero."""
    sign = "-" if (part < 0) != (whole < 0) and part else ""
    scaled = (abs(part) * _MICROS * 2 + abs(whole)) // (abs(whole) * 2)
    return f"{sign}{scaled // 10_000}.{scaled % 10_000:04d}"


def iso(time_ns: int) -> str:
    """RFC 3339, UTC, nanoseconds."""
    return f"{_second(time_ns // NS_PER_S)}.{time_ns % NS_PER_S:09d}Z"


def iso_ms(time_ms: int) -> str:
    """RFC 3339, UTC, milliseconds."""
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


def iso_seconds(time_ns: int) -> str:
    """RFC 3339, UTC, whole seconds: the start of a bar."""
    return _second(time_ns // NS_PER_S) + "Z"


def ms_of(time_ns: int) -> int:
    return time_ns // NS_PER_MS


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
