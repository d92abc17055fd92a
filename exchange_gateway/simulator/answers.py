"""Bodies in and answers out, in the words of docs/venue-api.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from exchange_gateway.simulator.messages import NewOrder, VenueError
from infra.contracts import encode

BODY_BYTES_MAX, BATCH_BYTES_MAX = 64 * 1024, 1024 * 1024

S = TypeVar("S", bound=msgspec.Struct)


async def read(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body. Raises VenueError when it is too large, whether or not it says its length."""
    too_large = VenueError(413, "too_large", f"At most {bytes_max} bytes.")
    if int(request.headers.get("content-length") or 0) > bytes_max:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > bytes_max:
            raise too_large
    return b"".join(chunks)


def understood(body: bytes | msgspec.Raw, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VenueError(400, "malformed", str(error)) from error


def understood_or_error(raw: msgspec.Raw) -> NewOrder | VenueError:
    try:
        return understood(raw, NewOrder)
    except VenueError as error:
        return error


def reports_answer(bodies: Sequence[bytes]) -> bytes:
    return b'{"reports":[%b]}' % b",".join(bodies)


def batch_answer(answers: Sequence[list[bytes] | VenueError]) -> bytes:
    return b'{"results":[' + b",".join(_result(answer) for answer in answers) + b"]}"


def _result(answer: list[bytes] | VenueError) -> bytes:
    if isinstance(answer, VenueError):
        return b'{"status":%d,"error":%b}' % (answer.status, encode(answer.content()))
    return b'{"status":200,"reports":[%b]}' % b",".join(answer)


def error_answer(error: VenueError) -> bytes:
    return encode({"error": error.content()})


def json_response(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


def install_errors(app: FastAPI) -> None:
    """Every error has the venue's form."""
    app.add_exception_handler(VenueError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)


def _error(status: int, content: dict[str, Any]) -> Response:
    return json_response(encode({"error": content}), status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, VenueError)
    return _error(error.status, error.content())


async def _malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _error(400, {"code": "malformed", "text": str(error.errors()[0]["msg"])})


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, {"code": "not_found", "text": str(error.detail)})
