"""In which format a history goes out, and which version of it this is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from price_service.domain import reasons
from price_service.domain.parameters import shown
from price_service.domain.reasons import refusal
from price_service.history import tables
from price_service.history.answers import Page, history_json

ACCEPT_CHARACTERS_MAX = 4096


class Format(NamedTuple):
    """`write` makes the body. A `suffix` is of the file that a browser saves; without one it shows the answer."""

    media_type: str
    write: Callable[[Page], bytes]
    suffix: str | None = None


FORMATS = {
    "json": Format("application/json", history_json),
    "csv": Format("text/csv; charset=utf-8; header=present", tables.csv, "csv"),
    "parquet": Format("application/vnd.apache.parquet", tables.parquet, "parquet"),
    "arrow": Format("application/vnd.apache.arrow.stream", tables.arrow, "arrows"),
}


def format_of(wanted: str | None, accept: str | None) -> Format:
    """By the parameter `format`, else by the header Accept (RFC 9110 §12.5.1), else JSON. Raises Refusal."""
    if wanted is not None:
        if wanted not in FORMATS:
            raise refusal(reasons.FORMAT_UNKNOWN, "format", format=shown(wanted), allowed=", ".join(FORMATS))
        return FORMATS[wanted]
    if not accept or not accept.strip():
        return FORMATS["json"]
    weights = _weights(accept[:ACCEPT_CHARACTERS_MAX])
    liked = max(FORMATS.values(), key=lambda each: _weight(each, weights))  # of equal ones the first
    if _weight(liked, weights) <= 0:
        allowed = ", ".join(each.media_type.split(";")[0] for each in FORMATS.values())
        raise refusal(reasons.FORMAT_NOT_ACCEPTABLE, allowed=allowed)
    return liked


def etag_of(body: bytes) -> str:
    """A strong validator: other bytes, other tag."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def _weights(accept: str) -> dict[str, float]:
    """Media range → quality. A quality that cannot be read is 1."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = [word.strip().lower() for word in part.split(";")]
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        weights[media] = float(quality) if quality.replace(".", "", 1).isdecimal() and quality.isascii() else 1.0
    return weights


def _weight(each: Format, weights: dict[str, float]) -> float:
    """Of the most specific range that names it."""
    media = each.media_type.split(";")[0]
    for name in (media, f"{media.split('/')[0]}/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0
