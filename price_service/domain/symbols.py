"""What can be a symbol in a request. Whether it is traded here is another question."""

from __future__ import annotations

import re

from price_service.domain import reasons
from price_service.domain.reasons import refusal

CHARACTERS_MAX = 16
_SYMBOL = re.compile(r"[A-Z][A-Z0-9.\-]{0,15}", re.ASCII)


def symbol_of(raw: str, field: str) -> str:
    """In capitals. Raises Refusal when it cannot be a symbol; what was sent is shown shortened."""
    symbol = raw.strip().upper()
    if not _SYMBOL.fullmatch(symbol):
        shown = raw if len(raw) <= CHARACTERS_MAX else raw[:CHARACTERS_MAX] + "…"
        raise refusal(reasons.SYMBOL_INVALID, field, symbol=shown)
    return symbol


def symbols_of(raw: str, field: str, symbols_max: int) -> list[str]:
    """A comma-separated list, each symbol once, in the order sent. The length is checked before anything is cut up."""
    if not raw.strip():
        raise refusal(reasons.SYMBOLS_MISSING, field)
    if len(raw) > symbols_max * (CHARACTERS_MAX + 2) or raw.count(",") >= symbols_max:
        raise refusal(reasons.SYMBOLS_TOO_MANY, field, max=symbols_max)
    return list(dict.fromkeys(symbol_of(part, field) for part in raw.split(",")))
