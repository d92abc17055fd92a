"""Every code with which the door itself refuses, before any service is asked: once, with a sentence and a fix."""

from __future__ import annotations

from collections.abc import Mapping

from infra.reasons import INVALID_FIELD, INVALID_JSON, MISSING_FIELD, UNKNOWN_FIELD, Code, refusal

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
ROUTE_NOT_FOUND = Code("route_not_found", "There is nothing at this path.", "/docs lists the paths.")
METHOD_NOT_ALLOWED = Code("method_not_allowed", "This path does not take this method.", "The header Allow lists them.")
BAD_REQUEST = Code("bad_request", "The request cannot be read.", "/docs says how it must look.")
INTERNAL = Code("internal", "Something went wrong on our side; it was logged.", "Say the request id when you ask.")

CODES: Mapping[str, Code] = {code.code: code for code in list(globals().values()) if isinstance(code, Code)}


__all__ = ["CODES", "INVALID_FIELD", "INVALID_JSON", "MISSING_FIELD", "UNKNOWN_FIELD", "Code", "refusal"]
