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
TICKET_INVALID = Code(
    "ticket_invalid",
    "The ticket is not good: it was used, it is older than 30 seconds, or it was never issued.",
    "Get a new one with POST /streams/tickets for each stream that is opened.",
)
TICKETS_UNAVAILABLE = Code(
    "tickets_unavailable",
    "Tickets cannot be given or taken at the moment.",
    "Try again in a moment, or send the header Authorization.",
)
ROLE_NOT_ALLOWED = Code("role_not_allowed", "This role may not do that.", "Use a token of an allowed role.")

# -- the request -------------------------------------------------------------------------------------------------------
BODY_TOO_LARGE = Code("body_too_large", "The request body is too large.", "Send a smaller body.")
ROUTE_NOT_FOUND = Code("route_not_found", "There is nothing at this path.", "/docs lists the paths.")
METHOD_NOT_ALLOWED = Code("method_not_allowed", "This path does not take this method.", "The header Allow lists them.")
BAD_REQUEST = Code("bad_request", "The request cannot be read.", "/docs says how it must look.")
TARGET_TOO_LONG = Code("target_too_long", "The path and query are too long to be read.", "Send a shorter query.")
HEAD_TOO_LARGE = Code("head_too_large", "The request line and headers are too large.", "Send fewer or shorter headers.")
INTERNAL = Code("internal", "Something went wrong on our side; it was logged.", "Say the request id when you ask.")

# -- operators ---------------------------------------------------------------------------------------------------------
DEAD_LETTER_NOT_FOUND = Code("dead_letter_not_found", "There is no such dead letter.", "GET /ops/dlq lists them.")
DEAD_LETTER_NOT_PARKED = Code(
    "dead_letter_not_parked",
    "The dead letter is not parked any more.",
    "Look at its state; a discarded one can be restored.",
)
DEAD_LETTER_NOT_DISCARDED = Code(
    "dead_letter_not_discarded", "Only a discarded dead letter can be restored.", "Look at its state."
)
REPLAY_SELECTION_INVALID = Code(
    "replay_selection_invalid",
    "A replay names either ids, or a topic and a code.",
    "Send ids alone, or topic and code.",
)
REPLAY_RUNNING = Code("replay_running", "Another replay has not ended yet.", "Try again when it has.")
REPLAY_TOO_LONG = Code(
    "replay_too_long", "So many letters at this rate would take too long for one request.", "Send fewer, or faster."
)
SWITCH_SCOPE_INVALID = Code(
    "switch_scope_invalid",
    "A switch is for everything, one symbol or one account.",
    "Use global, symbol:AAPL or account:7.",
)
OPS_UNAVAILABLE = Code(
    "ops_unavailable",
    "The store or the bus does not answer; whether a change was made is not known.",
    "Look at it again in a moment.",
)

CODES: Mapping[str, Code] = {code.code: code for code in list(globals().values()) if isinstance(code, Code)}


__all__ = ["CODES", "INVALID_FIELD", "INVALID_JSON", "MISSING_FIELD", "UNKNOWN_FIELD", "Code", "refusal"]
