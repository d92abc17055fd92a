"""Every refusal as a problem document (RFC 9457). The only file that knows which HTTP status a reason code has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketState

from api import reasons
from api.reasons import Code
from infra.refusal import Refusal

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
REALM = 'Bearer realm="xgw"'
DEFAULT_STATUS = 422
CLOSE_CODES = 4000

# Code → status. A refusal of what was sent is 422 unless HTTP has a better word for it.
STATUS: Mapping[str, int] = {
    # the door
    "token_missing": 401,
    "token_malformed": 401,
    "token_expired": 401,
    "token_invalid": 401,
    "ticket_invalid": 401,
    "tickets_unavailable": 503,
    "role_not_allowed": 403,
    "body_too_large": 413,
    "invalid_json": 400,
    "bad_request": 400,
    "target_too_long": 414,
    "head_too_large": 431,
    "missing_field": 422,
    "unknown_field": 422,
    "invalid_field": 422,
    "route_not_found": 404,
    "method_not_allowed": 405,
    "internal": 500,
    # operators
    "dead_letter_not_found": 404,
    "dead_letter_not_parked": 409,
    "dead_letter_not_discarded": 409,
    "replay_selection_invalid": 422,
    "replay_running": 409,
    "replay_too_long": 422,
    "switch_scope_invalid": 422,
    "ops_unavailable": 503,
    # prices
    "unknown_symbol": 404,
    "invalid_symbol": 422,
    "symbols_missing": 422,
    "too_many_symbols": 422,
    "symbol_or_symbols": 422,
    "unknown_timerange": 422,
    "unknown_interval": 422,
    "timerange_missing": 422,
    "symbol_missing": 422,
    "interval_too_long": 422,
    "timerange_or_from": 422,
    "invalid_time": 422,
    "from_after_to": 422,
    "range_in_future": 422,
    "range_too_long": 422,
    "invalid_adjusted": 422,
    "invalid_cursor": 422,
    "cursor_of_another_range": 422,
    "unknown_format": 422,
    "format_not_acceptable": 406,
    "invalid_limit": 422,
    "too_many_histories": 429,
    "query_too_long": 414,
    "unknown_parameter": 422,
    "repeated_parameter": 422,
    "parameter_not_text": 422,
    "search_text_missing": 422,
    "search_text_too_long": 422,
    "too_many_streams": 429,
    "stream_not_found": 404,
    "stream_unreachable": 503,
    "stream_of_nothing": 422,
    "stream_change_invalid": 422,
    "last_event_id_invalid": 422,
    "book_unknown": 404,
    "message_invalid": 422,
    "too_many_messages": 429,
    "price_reads_per_second_above_max": 429,
    "prices_not_ready": 503,
    "price_store_unavailable": 503,
    # orders: the request
    "parameter_invalid": 422,
    "rebuild_only_checks": 422,
    "idempotency_key_invalid": 422,
    "idempotency_key_reused": 422,
    # orders: the order
    "order_type_unknown": 422,
    "type_not_supported": 422,
    "type_not_taken_yet": 422,
    "time_in_force_not_supported": 422,
    "symbol_not_traded": 422,
    "quantity_not_whole": 422,
    "quantity_not_positive": 422,
    "quantity_above_max": 422,
    "quantity_off_lot": 422,
    "amount_required": 422,
    "amount_not_allowed": 422,
    "amount_invalid": 422,
    "amount_off_tick": 422,
    "notional_above_max": 422,
    "price_outside_collar": 422,
    "symbol_restricted": 403,
    "symbol_halted": 409,
    "market_closed": 409,
    "cancel_only": 403,
    "reduce_only": 403,
    "quote_missing": 409,
    "quote_stale": 409,
    # orders: who asks, and the state
    "account_unknown": 404,
    "account_blocked": 403,
    "account_required": 422,
    "open_orders_above_max": 409,
    # Nothing was stored, so a client that repeats by itself on 429 does no harm.
    "orders_per_second_above_max": 429,
    "duplicate_order": 409,
    "buying_power_insufficient": 422,
    "shares_insufficient": 422,
    "role_may_not_trade": 403,
    "order_not_found": 404,
    "break_not_found": 404,
    "order_final": 409,
    "cancel_pending": 409,
    "replace_pending": 409,
    "order_parked": 409,
    "replace_of_market": 422,
    "replace_empty": 422,
    "replace_without_change": 422,
    "replace_too_late": 409,
    "request_in_flight": 409,
    # orders: later it can succeed
    "market_unknown": 503,
    "orders_busy": 503,
    "store_unavailable": 503,
    "stream_unavailable": 503,
}

PROBLEM_SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "requestId"],
    "properties": {
        "type": {"type": "string", "description": "Identifies the kind of problem; the code is the part to switch on."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable: the same cause always has the same code."},
        "detail": {"type": "string", "description": "One sentence for people."},
        "field": {"type": ["string", "null"], "description": "The part of the request at fault."},
        "details": {"type": "object", "description": "The numbers that decided."},
        "fix": {"type": ["string", "null"], "description": "What would make it succeed."},
        "requestId": {"type": "string", "description": "Finds this request in our logs."},
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; nothing was changed.", "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}}
}

_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def status_of(code: str) -> int:
    return STATUS.get(code, DEFAULT_STATUS)


def problem(refused: Refusal, request_id: str, status: int | None = None, headers: Mapping[str, str] = {}) -> Response:
    """The answer to a refusal. Of its `details`, `fix` gets its own place and `retry_after_s` also becomes a header."""
    status = status or status_of(refused.code)
    body = {
        "type": f"urn:xgw:problem:{refused.code}",
        "title": _title(status),
        "status": status,
        "code": refused.code,
        "detail": refused.text,
        "field": refused.field,
        "details": {name: value for name, value in refused.details.items() if name != "fix"},
        "fix": refused.details.get("fix"),
        "requestId": request_id,
    }
    return Response(_encoder.encode(body), status, {**_headers(refused, status), **headers}, MEDIA_TYPE)


def internal(request_id: str) -> Response:
    """What a client learns of an error of ours: that it is ours, and where to find it."""
    return problem(reasons.refusal(reasons.INTERNAL), request_id)


def install(app: FastAPI) -> None:
    """Answer every refusal, validation error and routing error of `app` with a problem document."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        if request.scope["type"] == "websocket":
            await closed(cast("WebSocket", request), error)
        return problem(error, request_id_of(request.scope))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem(_of_validation(error.errors()), request_id_of(request.scope))

    async def routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _of_status(error.status_code)
        found = reasons.refusal(code, field="body" if code is reasons.INVALID_JSON else None)
        return problem(found, request_id_of(request.scope), error.status_code, error.headers or {})

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, routed)


async def closed(websocket: WebSocket, error: Refusal) -> None:
    """A browser's script sees nothing of a refused handshake. So the connection is accepted, told why in one message,
    and closed with CLOSE_CODES + the status of the same refusal (RFC 6455 §7.4.2: private use)."""
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept()
    details = {name: value for name, value in error.details.items() if name != "fix"}
    said = {"type": "error", "code": error.code, "detail": error.text, "field": error.field, "details": details}
    await websocket.send_text(_encoder.encode({**said, "fix": error.details.get("fix")}).decode())
    await websocket.close(CLOSE_CODES + status_of(error.code))


def request_id_of(scope: Mapping[str, Any]) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def _headers(refused: Refusal, status: int) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        # RFC 6750 §3.1: without credentials no error code is given.
        missing = refused.code == reasons.TOKEN_MISSING.code
        headers["WWW-Authenticate"] = REALM if missing else f'{REALM}, error="invalid_token"'
    elif refused.code == reasons.ROLE_NOT_ALLOWED.code:
        headers["WWW-Authenticate"] = f'{REALM}, error="insufficient_scope"'
    if (seconds := refused.details.get("retry_after_s")) is not None:
        headers["Retry-After"] = str(seconds)
    return headers


def _of_validation(errors: Sequence[Any]) -> Refusal:
    """The first error in full, the others by field and code. What was sent is not repeated."""
    found = [_of_error(error) for error in errors]
    first, rest = found[0], found[1:]
    if rest:
        first.details["also"] = [{"field": other.field, "code": other.code, "detail": other.text} for other in rest]
    return first


def _of_error(error: Mapping[str, Any]) -> Refusal:
    code = {
        "json_invalid": reasons.INVALID_JSON,
        "missing": reasons.MISSING_FIELD,
        "extra_forbidden": reasons.UNKNOWN_FIELD,
    }.get(error["type"], reasons.INVALID_FIELD)
    if code is reasons.INVALID_JSON:
        why = error.get("ctx", {}).get("error", "unreadable")
        return reasons.refusal(code, f"The body is not JSON: {why}.", "body")
    # The first word says where (body, query, path, header); alone it is the whole body.
    where = [str(word) for word in error["loc"]]
    field = ".".join(where[1:]) or where[0]
    text = {
        reasons.MISSING_FIELD: f"The field {field} is missing.",
        reasons.UNKNOWN_FIELD: f"The field {field} is not known here.",
    }.get(code, f"The field {field} is not valid: {error['msg']}.")
    return reasons.refusal(code, text, field)


def _of_status(status: int) -> Code:
    known: dict[int, Code] = {
        # FastAPI's own 400: a body that is too deep, not UTF-8, or has a number without end.
        400: reasons.INVALID_JSON,
        404: reasons.ROUTE_NOT_FOUND,
        405: reasons.METHOD_NOT_ALLOWED,
        413: reasons.BODY_TOO_LARGE,
    }
    return known.get(status, reasons.BAD_REQUEST if status < 500 else reasons.INTERNAL)


def _title(status: int) -> str:
    return next((known.phrase for known in HTTPStatus if known == status), "Error")
