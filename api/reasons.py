"""Every code with which the door itself refuses, before any service is asked: once, with a sentence and a fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from infra.refusal import Refusal


class Code(NamedTuple):
    code: str
    text: str
    fix: str


# -- who asks ----------------------------------------------------------------------------------------------------------
TOKEN_MISSING = Code(
    "token_missing", "The request has no bearer token.", "Send the header Authorization: Bearer <token>."
)
TOKEN_MALFORMED = Code("token_malformed", "The bearer token is not a token.", "Send it exactly as it was issued.")
TOKEN_EXPIRED = Code("token_expired", "The bearer token has expired.", "Get a new token.")
TOKEN_INVALID = Code(
    "token_invalid", "The bearer token was not issued for this api.", "Get a token of this deployment."
)
ROLE_NOT_ALLOWED = Code("role_not_allowed", "This role may not do that.", "Use a token of an allowed role.")

# -- the request -------------------------------------------------------------------------------------------------------
BODY_TOO_LARGE = Code("body_too_large", "The request body is too large.", "Send a smaller body.")
INVALID_JSON = Code("invalid_json", "The body cannot be read as JSON.", "Send one JSON document in UTF-8.")
MISSING_FIELD = Code("missing_field", "A field is missing.", "Send it; /docs lists the fields.")
UNKNOWN_FIELD = Code("unknown_field", "A field is not known here.", "Leave it out; /docs lists the fields.")
INVALID_FIELD = Code("invalid_field", "A field has the wrong type or value.", "/docs lists types and limits.")
ROUTE_NOT_FOUND = Code("route_not_found", "There is nothing at this path.", "/docs lists the paths.")
METHOD_NOT_ALLOWED = Code("method_not_allowed", "This path does not take this method.", "The header Allow lists them.")
BAD_REQUEST = Code("bad_request", "The request cannot be read.", "/docs says how it must look.")
INTERNAL = Code("internal", "Something went wrong on our side; it was logged.", "Say the request id when you ask.")

CODES: Mapping[str, Code] = {code.code: code for code in list(globals().values()) if isinstance(code, Code)}


def refusal(
    code: Code, text: str | None = None, field: str | None = None, details: Mapping[str, Any] | None = None
) -> Refusal:
    """`code` as an exception, with its own sentence unless a better one is known."""
    return Refusal(code.code, text or code.text, field, details)
