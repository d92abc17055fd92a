"""What every request gets: a limit, an id, a place in the metrics, and the routes of this process's roles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from api import docs
from api.limits import BodyLimit
from api.observe import UNMATCHED
from api.roles import DOORS, Door, UnknownRole, from_arguments
from tests.unit.api.doors import application, client, token

LIMIT = 100
BODY = b'{"symbol":"AAPL","quantity":1}'


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# -- body limit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/orders", "/nothing", "/healthz"])
async def test_a_declared_large_body_is_refused_everywhere(path: str) -> None:
    app, orders = application(body_bytes_max=LIMIT)
    async with client(app, token()) as http:
        answer = await http.post(path, content=b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.json()["details"] == {"bytes_max": LIMIT}
    assert answer.headers["connection"] == "close"
    assert orders.wishes == []


async def test_a_chunked_large_body_is_refused_too() -> None:
    app, orders = application(body_bytes_max=LIMIT)
    async with client(app, token()) as http:
        answer = await http.post("/orders", content=chunks(*[b"x" * 30] * 4))
    assert "content-length" not in answer.request.headers
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert orders.wishes == []


async def test_the_limit_itself_is_allowed_declared_or_chunked() -> None:
    app, orders = application(body_bytes_max=len(BODY))
    headers = {"content-type": "application/json"}
    async with client(app, token()) as http:
        whole = await http.post("/orders", content=BODY, headers=headers)
        parts = await http.post("/orders", content=chunks(BODY[:7], b"", BODY[7:]), headers=headers)
    assert (whole.status_code, parts.status_code, len(orders.wishes)) == (201, 201, 2)


async def test_the_default_limit_is_16_kib() -> None:
    app, _ = application()
    async with client(app, token()) as http:
        assert (await http.post("/orders", content=b" " * 16384)).status_code != 413
        assert (await http.post("/orders", content=b" " * 16385)).status_code == 413


class Called:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.bodies.append(message.get("body", b""))
        assert (await receive())["type"] == "http.disconnect", "what follows the body is the client's leaving"


async def limited(headers: Sequence[tuple[bytes, bytes]], messages: Sequence[Message]) -> tuple[Called, list[Message]]:
    """Run the limiter against a server that gives these messages."""
    called, sent, rest = Called(), [], list(messages)

    async def receive() -> Message:
        return rest.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "headers": list(headers), "method": "POST", "path": "/"}
    await BodyLimit(called, LIMIT)(scope, receive, send)
    return called, sent


GONE = {"type": "http.disconnect"}


async def test_a_client_that_leaves_in_its_body_reaches_nobody() -> None:
    started = {"type": "http.request", "body": b"{", "more_body": True}
    called, sent = await limited([(b"transfer-encoding", b"chunked")], [started, GONE])
    assert (called.bodies, sent) == ([], [])


async def test_a_length_that_is_not_a_number_is_counted_instead() -> None:
    whole = {"type": "http.request", "body": b"x" * (LIMIT + 1), "more_body": False}
    called, sent = await limited([(b"content-length", b"many")], [whole])
    assert called.bodies == []
    assert sent[0]["status"] == 413


async def test_a_body_that_is_larger_than_declared_is_refused() -> None:
    whole = {"type": "http.request", "body": b"x" * (LIMIT + 1), "more_body": False}
    called, sent = await limited([(b"content-length", b"5")], [whole])
    assert called.bodies == []
    assert sent[0]["status"] == 413


async def test_without_a_body_nothing_is_read_ahead() -> None:
    called, _ = await limited([], [{"type": "http.request", "body": b""}, GONE])
    assert called.bodies == [b""]


# -- id, metrics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "kept"), [("abc-1.2_3", True), ("x" * 65, False), ('a"b', False), ("a b", False)])
async def test_a_callers_request_id_is_kept_when_harmless(sent: str, kept: bool) -> None:
    async with client(application()[0]) as http:
        answer = await http.get("/nothing", headers={"x-request-id": sent})
    assert (answer.headers["x-request-id"] == sent) == kept
    assert answer.json()["requestId"] == answer.headers["x-request-id"]


async def test_each_request_has_its_own_id() -> None:
    app, _ = application()
    async with client(app) as http:
        ids = {(await http.get("/nothing")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def measured(route: str, status: int) -> float:
    labels = {"route": route, "status": str(status)}
    return REGISTRY.get_sample_value("xgw_http_request_seconds_count", labels) or 0.0


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/orders/41", "GET /orders/{order_id}", 404),
        ("GET", "/orders/500", "GET /orders/{order_id}", 500),
        ("GET", "/secret/path", UNMATCHED, 404),
        ("BREW", "/orders/41", UNMATCHED, 405),
        ("GET", "/stockPrices?symbol=AAPL", "GET /stockPrices", 200),
    ],
)
async def test_requests_are_measured_by_template(method: str, path: str, route: str, status: int) -> None:
    before = measured(route, status)
    with capture_logs():
        async with client(application()[0], token()) as http:
            assert (await http.request(method, path)).status_code == status
    assert measured(route, status) == before + 1


async def test_a_crash_after_the_answer_began_is_not_hidden() -> None:
    app, _ = application()

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("in the middle")

        return StreamingResponse(body())

    async with client(app) as http:
        with capture_logs(), pytest.raises(RuntimeError, match="in the middle"):
            await http.get("/broken")


# -- roles and pages ---------------------------------------------------------------------------------------------------


async def statuses(app: FastAPI) -> list[int]:
    async with client(app, token("operator")) as http:
        paths = ("/stockPrices?symbol=AAPL", "/orders/503", "/ops/health")
        return [(await http.get(path)).status_code for path in paths]


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (("prices",), [200, 404, 404]),
        (("orders",), [404, 503, 404]),
        (("ops",), [404, 404, 200]),
        (DOORS, [200, 503, 200]),
    ],
)
async def test_a_process_has_the_routes_of_its_roles(roles: tuple[Door, ...], expected: list[int]) -> None:
    assert await statuses(application(roles)[0]) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], DOORS),
        (["--roles", "all"], DOORS),
        (["--roles", "orders,prices"], ("prices", "orders")),
        (["--roles=ops"], ("ops",)),
    ],
)
def test_roles_are_read_from_the_arguments(arguments: list[str], expected: tuple[Door, ...]) -> None:
    assert from_arguments(arguments) == expected


@pytest.mark.parametrize("arguments", [["--roles", "admin"], ["--roles", ""], ["--roles"], ["prices"], ["-v"]])
def test_other_arguments_are_refused_by_name(arguments: list[str]) -> None:
    with pytest.raises(UnknownRole, match="prices"):
        from_arguments(arguments)


async def test_the_openapi_file_has_the_routes_the_tokens_and_the_problems() -> None:
    async with client(application()[0]) as http:
        schema = (await http.get("/openapi.json")).json()
    assert set(schema["paths"]) == {
        "/orders",
        "/orders/stream",
        "/orders/{order_id}",
        "/stockPrices",
        "/ops/health",
        "/streams/tickets",
    }
    place = schema["paths"]["/orders"]["post"]
    assert place["security"] == [{"bearer": []}]
    assert "application/problem+json" in place["responses"]["4XX"]["content"]
    assert "HTTPValidationError" not in json.dumps(schema)


async def test_the_docs_page_needs_no_other_host(tmp_path: Path) -> None:
    (tmp_path / docs.SCRIPT).write_text("script")
    app = FastAPI(docs_url=None)
    docs.add_page(app, tmp_path)
    async with client(app) as http:
        page = (await http.get("/docs")).text
        assert (await http.get(f"{docs.ASSETS_PATH}/{docs.SCRIPT}")).text == "script"
    assert "https:" not in page.replace("https://fastapi.tiangolo.com", "")
    assert docs.SCRIPT in page


async def test_the_docs_page_is_there_without_the_assets() -> None:
    app = FastAPI(docs_url=None)
    docs.add_page(app, None)
    async with client(app) as http:
        assert "/openapi.json" in (await http.get("/docs")).text


def test_building_needs_no_loop_and_no_server() -> None:
    app, _ = application()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert app.title
