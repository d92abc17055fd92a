"""Every refusal explains itself in one form, and nothing of ours leaks."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from api import app as api_app
from api import reasons
from api.errors import STATUS, status_of
from infra.clock import ManualClock
from order_service.domain import reasons as order_reasons
from price_service.domain import reasons as price_reasons
from tests.unit.api.doors import OTHER_SECRET, PriceDoors, application, client, settings, token

# Why an order ended, in an order's `reason`; never the answer to a request.
ENDINGS = {
    "rejected_by_venue",
    "cancel_rejected",
    "not_after_passed",
    "not_sent",
    "refused_by_venue",
    "outcome_unknown",
    "parked",
    "given_up",
}


@pytest.fixture
def app() -> FastAPI:
    return application()[0]


def checked(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, its form verified."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["type", "title", "status", "code", "detail", "field", "details", "fix", "requestId"]
    assert (body["status"], body["code"], body["title"]) == (status, code, HTTPStatus(status).phrase)
    assert body["type"].endswith(f":{code}")
    assert body["requestId"] == answer.headers["x-request-id"]
    return body


async def posted(app: FastAPI, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client(app, token()) as http:
        return await http.post("/orders", content=content, headers={"content-type": "application/json"})


def test_every_code_of_a_request_has_a_status_of_its_own() -> None:
    declared = {*reasons.CODES, *price_reasons.CODES, *order_reasons.CODES}
    assert declared - ENDINGS - STATUS.keys() == set()
    assert STATUS.keys() - declared == set(), "statuses of codes that no longer exist"
    assert status_of("never_heard_of") == 422
    assert all(400 <= status <= 599 for status in STATUS.values())


async def test_a_refusal_carries_its_numbers_exactly(app: FastAPI) -> None:
    async with client(app, token()) as http:
        answer = await http.get("/orders/7")
    body = checked(answer, 404, "order_not_found")
    assert (body["field"], body["fix"], body["detail"]) == ("id", "List your orders.", "There is no such order.")
    assert body["details"] == {"order": 7, "price": 580.1}
    assert b'"price":580.10' in answer.content, "a Decimal stays exact, and a number"


async def test_when_to_come_back_is_also_a_header(app: FastAPI) -> None:
    async with client(app, token()) as http:
        answer = await http.get("/orders/503")
    assert checked(answer, 503, "orders_busy")["details"] == {"retry_after_s": 2}
    assert answer.headers["retry-after"] == "2"


async def test_a_crash_says_nothing_but_where_to_look(app: FastAPI) -> None:
    with capture_logs() as lines:
        async with client(app, token()) as http:
            answer = await http.get("/orders/500")
    checked(answer, 500, "internal")
    assert [(line["event"], line["route"]) for line in lines] == [("request_failed", "GET /orders/{order_id}")]
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"symbol": "AAPL"}, 422, "missing_field", "quantity"),
        ({"symbol": "AAPL", "quantity": 1, "colour": "red"}, 422, "unknown_field", "colour"),
        ({"symbol": "AAPL", "quantity": "1"}, 422, "invalid_field", "quantity"),
        ({"symbol": "AAPL", "quantity": 1.5}, 422, "invalid_field", "quantity"),
        ([], 422, "invalid_field", "body"),
        (b"", 422, "missing_field", "body"),
        (b"{", 400, "invalid_json", "body"),
        (b'{"symbol":"AAPL","quantity":1}garbage', 400, "invalid_json", "body"),
        (b"\xff\xfe{}", 400, "invalid_json", "body"),
        (b"[" * 16_000, 400, "invalid_json", "body"),
        (b'{"quantity":' + b"9" * 5000 + b"}", 400, "invalid_json", "body"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_bodies(body: Any, status: int, code: str, field: str | None) -> None:
    app, orders = application()
    assert checked(await posted(app, body), status, code)["field"] == field
    assert orders.wishes == []


async def test_all_faults_of_a_body_are_named_and_none_is_repeated(app: FastAPI) -> None:
    body = checked(await posted(app, {"quantity": "hunter2", "colour": "hunter2"}), 422, "missing_field")
    assert [other["field"] for other in body["details"]["also"]] == ["quantity", "colour"]
    assert "hunter2" not in json.dumps(body)


async def test_a_query_parameter_is_named(app: FastAPI) -> None:
    async with client(app, token()) as http:
        assert checked(await http.get("/stockPrices"), 422, "missing_field")["field"] == "symbol"


@pytest.mark.parametrize("path", ["/nothing", "/orders/", "/ops", "//orders", "/orders/1/2", "/%00"])
async def test_unknown_paths(app: FastAPI, path: str) -> None:
    async with client(app) as http:
        checked(await http.get(path), 404, "route_not_found")


async def test_wrong_methods_learn_the_right_ones(app: FastAPI) -> None:
    async with client(app) as http:
        answer = await http.put("/orders", content=b"{}")
    checked(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "token_missing"),
        ("", "token_missing"),
        ("Bearer", "token_missing"),
        ("Basic YTpi", "token_missing"),
        ("Bearer nonsense", "token_malformed"),
        (f"Bearer {token(secret=OTHER_SECRET)}", "token_invalid"),
        (f"Bearer {token(ttl_s=-1)}", "token_expired"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_without_a_good_token_nobody_is_anybody(app: FastAPI, header: str | None, code: str) -> None:
    async with client(app) as http:
        answer = await http.get("/orders/7", headers={} if header is None else {"authorization": header})
    checked(answer, 401, code)
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="xgw"')
    assert ("error=" in challenge) == (code != "token_missing")


async def test_a_token_that_was_good_expires_all_the_same() -> None:
    clock = ManualClock()
    app = api_app.build(settings(), {"prices": PriceDoors(asyncio.Event())}, ("prices",), clock)
    async with client(app, token(ttl_s=60)) as http:
        assert (await http.get("/stockPrices?symbol=A")).status_code == 200
        clock.advance(61)
        checked(await http.get("/stockPrices?symbol=A"), 401, "token_expired")


async def test_the_scheme_is_written_as_one_likes(app: FastAPI) -> None:
    async with client(app) as http:
        answer = await http.get("/stockPrices?symbol=AAPL", headers={"authorization": f"bearer {token()}"})
    assert answer.status_code == 200


async def test_operators_routes_are_for_operators(app: FastAPI) -> None:
    async with client(app, token()) as http:
        answer = await http.get("/ops/health")
    body = checked(answer, 403, "role_not_allowed")
    assert body["details"] == {"role": "investor", "allowed": ["operator"]}
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    async with client(app, token("operator")) as http:
        health = (await http.get("/ops/health")).json()
    assert health["ready"] is True
    assert health["conditions"] == {"hub": True, "store": True}
