"""Codes of a request that cannot be read, whichever room reads it: once, with a sentence and a fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from infra.refusal import Refusal


class Code(NamedTuple):
    code: str
    text: str
    fix: str


INVALID_JSON = Code("invalid_json", "The body cannot be read as JSON.", "Send one JSON document in UTF-8.")
MISSING_FIELD = Code("missing_field", "A field is missing.", "Send it; /docs lists the fields.")
UNKNOWN_FIELD = Code("unknown_field", "A field is not known here.", "Leave it out; /docs lists the fields.")
INVALID_FIELD = Code("invalid_field", "A field has the wrong type or value.", "/docs lists types and limits.")


def refusal(
    code: Code, text: str | None = None, field: str | None = None, details: Mapping[str, Any] | None = None
) -> Refusal:
    """`code` as an exception, with its own sentence unless a better one is known."""
    return Refusal(code.code, text or code.text, field, {"fix": code.fix, **(details or {})})
