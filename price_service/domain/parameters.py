"""The query string of a price request, read strictly: what is unknown, repeated or no text is refused."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_plus

from price_service.domain import reasons
from price_service.domain.reasons import refusal

# 500 symbols of 16 characters with every comma written in three are a fifth of this.
QUERY_CHARACTERS_MAX = 65_536
_SHOWN_CHARACTERS = 24


def parameters(query: str, allowed: Sequence[str]) -> dict[str, str]:
    """Name → value of a raw query string. Raises Refusal; what was sent is shown shortened."""
    if len(query) > QUERY_CHARACTERS_MAX:
        raise refusal(reasons.QUERY_TOO_LONG, max=QUERY_CHARACTERS_MAX)
    found: dict[str, str] = {}
    for part in query.split("&", len(allowed) + 1):
        if not part:
            continue
        raw, _, value = part.partition("=")
        name = _text(raw)
        if name not in allowed:
            raise refusal(reasons.PARAMETER_UNKNOWN, shown(name), name=shown(name), allowed=", ".join(allowed))
        if name in found:
            raise refusal(reasons.PARAMETER_REPEATED, name, name=name)
        found[name] = _text(value, name)
    return found


def shown(word: str) -> str:
    """What a refusal repeats of what was sent."""
    return word if len(word) <= _SHOWN_CHARACTERS else word[:_SHOWN_CHARACTERS] + "…"


def _text(encoded: str, field: str = "") -> str:
    """Percent-encoded UTF-8 (RFC 3986 §2.5)."""
    try:
        return unquote_plus(encoded, errors="strict")
    except UnicodeDecodeError:
        raise refusal(reasons.PARAMETER_NOT_TEXT, field or None, name=field or shown(encoded)) from None
