"""POST /orders before the framework and through it: one answer, byte for byte, whatever is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.app import build
from infra.clock import ManualClock
from infra.telemetry import HTTP_SECONDS
from tests.unit.api.doors import client, settings, token
from tests.unit.order_service.house import GOOD, house

# What two requests differ in by nature.
OWN = ("x-request-id", "location")
IDS = ("id", "clOrdId", "idempotencyKey", "requestId")

REQUESTS: dict[str, dict[str, Any]] = {
    "placed": {"json": GOOD},
    "placed with a key": {"json": GOOD, "headers": {"Idempotency-Key": "k-1"}},
    "a key that cannot be": {"json": GOOD, "headers": {"Idempotency-Key": "a b"}},
    "preview": {"json": GOOD, "params": {"preview": "true"}},
    "no preview": {"json": GOOD, "params": {"preview": "false"}},
    "preview maybe": {"json": GOOD, "params": {"preview": "maybe"}},
    "unknown parameter": {"json": GOOD, "params": {"colour": "red"}},
    "refused": {"json": GOOD | {"amount": 580.251}},
    "unknown field": {"json": GOOD | {"colour": "red"}},
    "missing field": {"json": {"orderType": "buy"}},
    "no JSON": {"content": b"{"},
    "no body": {},
    "too large": {"content": b"x" * 20_000},
    "no token": {"json": GOOD, "headers": {"Authorization": ""}},
    "another scheme": {"json": GOOD, "headers": {"Authorization": "Basic abc"}},
    "no such token": {"json": GOOD, "headers": {"Authorization": "Bearer abc"}},
    "lower-case scheme": {"json": GOOD, "headers": {"Authorization": f"bearer {token()}"}},
    "back office": {"json": GOOD, "headers": {"Authorization": f"Bearer {token('back_office', None)}"}},
}


@pytest.fixture(params=[True, False], ids=["direct", "ordinary"])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    async with house() as at:
        app = build(settings(direct_routes=request.param), {"orders": at.doors}, ("orders",), ManualClock())
        async with client(app, token()) as http:
            yield http


async def answered(http: httpx.AsyncClient, asked: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    answer = await http.post("/orders", **asked)
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    if "content-length" in headers:
        assert int(headers.pop("content-length")) == len(answer.content)
    return answer.status_code, headers, {k: v for k, v in answer.json().items() if k not in IDS}


@pytest.mark.parametrize("name", REQUESTS)
async def test_both_ways_answer_the_same(name: str) -> None:
    found = []
    for direct in (True, False):
        async with house() as at:
            app = build(settings(direct_routes=direct), {"orders": at.doors}, ("orders",), ManualClock())
            async with client(app, token()) as http:
                found.append(await answered(http, REQUESTS[name]))
    assert found[0] == found[1]


class TestPlacing:
    """What a client may rely on, either way."""

    async def test_an_order_is_placed_and_found(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/orders", json=GOOD)
        assert answer.status_code == 201
        assert (await http.get(answer.headers["location"])).json()["id"] == answer.json()["id"]

    async def test_a_repeated_key_gets_the_first_answer(self, http: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "again"}
        first, second = [await http.post("/orders", json=GOOD, headers=key) for _ in range(2)]
        assert second.content == first.content
        assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")

    async def test_it_is_measured_under_its_route(self, http: httpx.AsyncClient) -> None:
        def count() -> float:
            labels = {"route": "POST /orders", "status": "201"}
            return next(
                (
                    sample.value
                    for metric in HTTP_SECONDS.collect()
                    for sample in metric.samples
                    if sample.name.endswith("_count") and sample.labels == labels
                ),
                0.0,
            )

        before = count()
        await http.post("/orders", json=GOOD)
        assert count() == before + 1

    async def test_other_methods_are_not_taken_for_it(self, http: httpx.AsyncClient) -> None:
        assert (await http.put("/orders", json=GOOD)).status_code == 405
        assert (await http.get("/orders")).status_code == 200
