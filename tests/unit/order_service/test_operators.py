"""What operators see and decide: breaks, and whether orders follow from their events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from msgspec import structs

from infra.clock import Ids, ManualClock
from infra.contracts import Snapshot
from infra.principal import Principal
from infra.refusal import Refusal
from order_service.app import OperatorDoors
from order_service.domain import facts
from order_service.domain.breaks import Break
from order_service.rebuild.compare import differences
from order_service.rebuild.routes import checked
from order_service.reports.order_status import OrderStatus
from order_service.store.memory import MemoryOrders
from order_service.store.memory_watch import MemoryBreaks, MemoryWatch
from order_service.store.unit import Want
from tests.unit.order_service.house import refused
from tests.unit.order_service.makers import BACK_OFFICE, NOW_US, change, fill, order, report

OPERATOR = Principal("olga", "operator")


async def no_snapshot(_: Snapshot) -> None:
    raise AssertionError


async def store_with_an_order() -> MemoryOrders:
    clock = ManualClock(NOW_US * 1000)
    store, ids, one = MemoryOrders(), Ids(clock, 5), order()
    await store.write(BACK_OFFICE, Want(accounts=frozenset({1})), lambda unit: unit.record(one, change(ids)))
    status = OrderStatus(store, clock, ids, no_snapshot)
    await status.apply([report(one, "NEW", venue_seq=1), fill(one, 4, 100, 2)])
    asked = facts.replace_requested(store.orders[one.id], 2, 20, 700_000_000, NOW_US)
    await store.write(BACK_OFFICE, Want(orders=frozenset({one.id})), lambda unit: unit.record(asked, change(ids)))
    return store


@asynccontextmanager
async def door(store: MemoryOrders) -> AsyncIterator[httpx.AsyncClient]:
    web = FastAPI()
    for router in OperatorDoors(MemoryWatch(store), MemoryBreaks(store)).routers(lambda: OPERATOR):
        web.include_router(router)
    web.add_exception_handler(Refusal, refused)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://ops") as client:
        yield client


def missing(subject: str) -> Break:
    return Break(kind="missing_here", subject=subject, ours={}, theirs={"quantity": 1}, proposal="Ask.", seen_us=NOW_US)


async def test_breaks_are_listed_in_pages_and_accepted_with_a_reason() -> None:
    store = MemoryOrders()
    store.note([missing("A"), missing("B"), missing("C")])
    async with door(store) as client:
        first = (await client.get("/ops/breaks", params={"state": "open", "limit": 2})).json()
        rest = (await client.get("/ops/breaks", params={"cursor": first["next"]})).json()
        shown = first["breaks"] + rest["breaks"]
        assert {one["subject"] for one in shown} == {"A", "B", "C"}
        assert rest["next"] is None
        assert first["ages"]["open"]["count"] == 3
        accepted = await client.post(f"/ops/breaks/{shown[0]['id']}/accept", json={"reason": "Known."})
        assert accepted.json() == {"id": shown[0]["id"], "state": "accepted"}
        (kept,) = (await client.get("/ops/breaks", params={"state": "accepted"})).json()["breaks"]
        assert (kept["id"], kept["note"]) == (shown[0]["id"], "Known.")


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/ops/breaks?state=closed", None, "parameter_invalid"),
        ("GET", "/ops/breaks?cursor=x", None, "parameter_invalid"),
        ("POST", "/ops/breaks/x/accept", {"reason": "r"}, "break_not_found"),
        ("POST", "/ops/breaks/01890000-0000-7000-8000-000000000001/accept", {"reason": "r"}, "break_not_found"),
        ("GET", "/ops/orders/rebuild", None, "rebuild_only_checks"),
    ],
)
async def test_what_is_refused(method: str, path: str, body: Any, code: str) -> None:
    async with door(MemoryOrders()) as client:
        answer = await client.request(method, path, json=body)
    assert answer.json()["code"] == code


@pytest.mark.parametrize("body", [{}, {"reason": " "}, {"reason": "a\nb"}, {"reason": "r", "more": 1}])
async def test_a_decision_needs_a_readable_reason(body: Any) -> None:
    async with door(MemoryOrders()) as client:
        answer = await client.post("/ops/breaks/01890000-0000-7000-8000-000000000001/accept", json=body)
    assert answer.status_code == 422


async def test_an_order_follows_from_its_events() -> None:
    store = await store_with_an_order()
    async with door(store) as client:
        found = (await client.get("/ops/orders/rebuild", params={"check": "true"})).json()
    assert found == {"orders": 1, "differing": 0, "differences": []}


async def test_what_does_not_follow_is_named() -> None:
    store = await store_with_an_order()
    one, (first, *events) = store.orders[order().id], store.histories[order().id]
    changed = replace(one, cum_qty=5, asked_micros=None)
    assert [(d.field, d.stored, d.rebuilt) for d in differences(changed, [first, *events])] == [
        ("cum_qty", 5, 4),
        ("asked_micros", None, 700_000_000),
    ]
    assert [d.field for d in differences(one, [first, *events[1:]])] == ["events"]
    assert [d.field for d in differences(one, [])] == ["events"]
    assert [d.field for d in differences(None, [first, *events])] == ["events"]
    assert [d.field for d in differences(one, [first, *events[:-1], structs.replace(events[-1], payload="{}")])] == [
        "events"
    ]
    store.orders[one.id] = changed
    found = await checked(MemoryWatch(store))
    assert (found["orders"], found["differing"]) == (1, 2)
    assert found["differences"][0] == {"orderId": one.id, "field": "cum_qty", "stored": 5, "rebuilt": 4}
