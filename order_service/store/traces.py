"""The trace that a change belongs to (W3C Trace Context): taken over from what caused it, or begun here."""

from __future__ import annotations

import re

from infra.clock import Ids

_VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(given: str | bytes | None, ids: Ids) -> str:
    text = given.decode("ascii", "replace") if isinstance(given, bytes) else given
    if text and _VALID.fullmatch(text):
        return text
    return f"00-{ids.random.getrandbits(128) | 1:032x}-{ids.random.getrandbits(64) | 1:016x}-01"
