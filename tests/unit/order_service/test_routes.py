"""The order routes over HTTP, on the twins: what is stored, what is refused and why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from infra.contracts import MARKET_STATUS, SWITCHES, MarketStatus, Switch, encode
from tests.flow.walking import eventually
from tests.unit.order_service.house import GOOD, House, house


@pytest.fixture
async def home() -> AsyncIterator[House]:
    async with house() as opened:
        yield opened


async def test_an_order_is_stored_and_shown(home: House) -> None:
    async with home.client() as client:
        answer = await client.post("/orders", json=GOOD)
        assert answer.status_code == 201
        assert b'"amount":580.25,' in answer.content
        order = answer.json()
        assert answer.headers["location"] == f"/orders/{order['id']}"
        assert "idempotent-replayed" not in answer.headers
        shown = await client.get(answer.headers["location"])
    assert shown.json() == order
    assert order["idempotencyKey"] == order["id"]
    expected = {
        "accountId": 1,
        "orderType": "buy",
        "type": "LIMIT",
        "symbol": "AAPL",
        "quantity": 10,
        "timeInForce": "DAY",
        "status": "PENDING",
        "pending": None,
        "outcome": "unsent",
        "cumQuantity": 0,
        "leavesQuantity": 10,
        "averagePrice": None,
        "exchangeOrderId": None,
        "reason": None,
        "attempts": 0,
        "nextAttemptAt": None,
        "version": 1,
        "accountSeq": 1,
        "createdAt": "2023-11-14T22:13:20.000000Z",
        "updatedAt": "2023-11-14T22:13:20.000000Z",
    }
    assert {name: order[name] for name in expected} == expected


async def test_an_amount_may_be_a_string_and_stays_exact(home: House) -> None:
    async with home.client() as client:
        answer = await client.post("/orders", json={**GOOD, "amount": "0.1"})
    assert b'"amount":0.1,' in answer.content


BAD: list[tuple[str, Mapping[str, Any] | bytes, str, str | None]] = [
    ("unknown symbol", {"symbol": "NOPE"}, "symbol_not_traded", "symbol"),
    ("zero quantity", {"quantity": 0}, "quantity_not_positive", "quantity"),
    ("negative quantity", {"quantity": -1}, "quantity_not_positive", "quantity"),
    ("fractional quantity", {"quantity": 1.5}, "quantity_not_whole", "quantity"),
    ("quantity as text", {"quantity": "10"}, "invalid_field", "quantity"),
    ("quantity as bool", {"quantity": True}, "invalid_field", "quantity"),
    ("huge quantity", {"quantity": 10**40}, "quantity_above_max", "quantity"),
    ("LIMIT without amount", {"amount": None}, "amount_required", "amount"),
    ("MARKET with amount", {"type": "MARKET"}, "amount_not_allowed", "amount"),
    ("off the tick", {"amount": 580.255}, "amount_off_tick", "amount"),
    ("a float's noise", {"amount": 0.30000000000000004}, "amount_off_tick", "amount"),
    ("negative amount", {"amount": -1}, "amount_invalid", "amount"),
    ("amount not a number", {"amount": "NaN"}, "amount_invalid", "amount"),
    ("amount as words", {"amount": "ten"}, "invalid_field", "amount"),
    ("amount as list", {"amount": [1]}, "invalid_field", "amount"),
    ("unknown field", {"colour": "red"}, "unknown_field", "colour"),
    ("wrong side", {"orderType": "short"}, "order_type_unknown", "orderType"),
    ("wrong type", {"type": "LIMITED"}, "type_not_supported", "type"),
    ("conditional type", {"type": "stop_limit"}, "type_not_taken_yet", "type"),
    ("wrong time in force", {"timeInForce": "GTD"}, "time_in_force_not_supported", "timeInForce"),
    ("type as number", {"type": 1}, "invalid_field", "type"),
    ("symbol as null", {"symbol": None}, "invalid_field", "symbol"),
    ("missing fields", b"{}", "missing_field", "orderType"),
    ("a list", b"[]", "invalid_json", "body"),
    ("no body", b"", "invalid_json", "body"),
    ("cut JSON", b'{"orderType":', "invalid_json", "body"),
    ("no UTF-8", b'{"orderType":"\xff"}', "invalid_json", "body"),
    ("a lone surrogate", b'{"orderType":"\\ud800"}', "invalid_json", "body"),
    ("nested deeply", b'{"orderType":' + b"[" * 16_000, "invalid_field", "orderType"),
    (
        "endless exponent",
        json.dumps(GOOD).replace("580.25", "1e999999999999999999999").encode(),
        "invalid_field",
        "amount",
    ),
]


@pytest.mark.parametrize(("body", "code", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_bad_input_is_refused_and_stores_nothing(
    home: House, body: Mapping[str, Any] | bytes, code: str, field: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps({**GOOD, **body}).encode()
    async with home.client() as client:
        for headers in ({}, {"Idempotency-Key": "k"}):
            answer = await client.post("/orders", content=content, headers=headers)
            assert answer.status_code == 422, answer.text
            problem = answer.json()
            assert (problem["code"], problem["field"]) == (code, field), answer.text
            assert problem["detail"]
            assert problem["details"]["fix"]
        assert (await client.get("/orders")).json() == {"orders": [], "next": None}
    assert home.store.outbox == []


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "caf\u00e9"])
async def test_unusable_keys(home: House, key: str) -> None:
    async with home.client() as client:
        answer = await client.post("/orders", json=GOOD, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_invalid")


async def test_query_parameters_are_not_ignored(home: House) -> None:
    async with home.client() as client:
        for asked in ("POST /orders?preview=yes", "POST /orders?dry=true", "GET /orders?sybmol=AAPL"):
            method, path = asked.split()
            answer = await client.request(method, path, json=GOOD)
            assert answer.json()["code"] == "parameter_invalid"
    assert home.store.outbox == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "limit=1e2", "status=OPEN", "cursor=7", "accountId=-1", "symbol="]
)
async def test_bad_filters(home: House, query: str) -> None:
    async with home.client() as client:
        answer = await client.get(f"/orders?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    assert answer.json()["field"] == query.partition("=")[0]


async def test_a_key_makes_one_order(home: House) -> None:
    key = {"Idempotency-Key": "k"}
    async with home.client() as client:
        answers = await asyncio.gather(*(client.post("/orders", json=GOOD, headers=key) for _ in range(64)))
        told = [answer.json().get("code", "201") for answer in answers]
        assert (told.count("201"), told.count("request_in_flight")) == (1, 63)
        again = await client.post("/orders", json=GOOD, headers=key)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
        assert again.content == answers[told.index("201")].content
        same_meaning = await client.post("/orders", json={**GOOD, "amount": "580.250"}, headers=key)
        assert same_meaning.headers["idempotent-replayed"] == "true"
        other = await client.post("/orders", json={**GOOD, "quantity": 11, "symbol": "IBM"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert other.json()["details"]["fields"] == "symbol, quantity"
        assert len((await client.get("/orders")).json()["orders"]) == 1


async def test_nothing_is_placed_while_the_market_is_unknown() -> None:
    async with house(listed=()) as home, home.client() as client:
        answer = await client.post("/orders", json=GOOD)
        assert answer.json()["code"] == "market_unknown"
        assert answer.json()["details"]["retry_after_s"] == 1
        assert not home.doors.ready["market"]()


async def test_a_cancel_is_asked_once(home: House) -> None:
    async with home.client() as client:
        order = (await client.post("/orders", json=GOOD)).json()
        answer = await client.delete(f"/orders/{order['id']}")
        assert (answer.status_code, answer.json()["pending"], answer.json()["status"]) == (202, "cancel", "PENDING")
        again = await client.delete(f"/orders/{order['id']}")
        assert (again.status_code, again.json()["code"]) == (409, "cancel_pending")
        events = (await client.get(f"/orders/{order['id']}/events")).json()["events"]
    assert [event["type"] for event in events] == ["OrderPlaced", "OrderCancelRequested"]
    assert events[1]["order"] == answer.json()
    command = json.loads(home.store.outbox[-1].payload)
    digits = order["id"].replace("-", "")
    assert (command["kind"], command["cl_ord_id"], command["orig_cl_ord_id"]) == (
        "cancel",
        f"{digits}-2",
        f"{digits}-1",
    )


async def test_what_operators_and_the_exchange_stop_is_refused_and_cancels_pass(home: House) -> None:
    producer = home.bus.producer()

    async def refused_with(code: str) -> bool:
        """The word travels over the bus; until it is here, orders are taken."""
        answer = await client.post("/orders", json=GOOD)
        assert answer.status_code == 201 or answer.json()["code"] == code, answer.text
        return answer.status_code != 201

    async with home.client() as client:
        path = (await client.post("/orders", json=GOOD)).headers["location"]
        switch = Switch(scope="account:1", mode="cancel_only", reason="a test", by="op", at_ns=1)
        await producer.send(SWITCHES, b"account:1", encode(switch))
        await eventually("the switch is on", lambda: refused_with("cancel_only"), 10, 0.001)
        assert (await client.patch(path, json={"quantity": 5})).json()["code"] == "cancel_only"
        assert (await client.delete(path)).status_code == 202
        await producer.send(SWITCHES, b"account:1", None)
        await producer.send(MARKET_STATUS, b"*", encode(MarketStatus("close", 1, 2)))

        async def closed() -> bool:
            answer = await client.post("/orders", json=GOOD)
            assert answer.status_code == 201 or answer.json()["code"] in ("cancel_only", "market_closed")
            return bool(answer.json().get("code") == "market_closed")

        await eventually("the market is closed", closed, 10, 0.001)
        assert (await client.post("/orders", json={**GOOD, "timeInForce": "GTC"})).status_code == 201


async def test_a_replace_is_asked_with_its_new_terms(home: House) -> None:
    async with home.client() as client:
        path = (await client.post("/orders", json=GOOD)).headers["location"]
        answer = await client.patch(path, json={"quantity": 12, "amount": "580.3"})
        assert answer.status_code == 202
        order = answer.json()
        assert (order["pending"], order["status"], order["quantity"], order["amount"]) == (
            "replace",
            "PENDING",
            10,
            580.25,
        )
        assert order["asked"] == {"quantity": 12, "amount": 580.3}
        assert (await client.get(path)).json() == order
        for again in (await client.patch(path, json={"quantity": 13}), await client.delete(path)):
            assert (again.status_code, again.json()["code"]) == (409, "replace_pending")
    command = json.loads(home.store.outbox[-1].payload)
    assert (command["kind"], command["quantity"], command["limit_micros"]) == ("replace", 12, 580_300_000)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "replace_empty", "body"),
        ({"quantity": None}, "replace_empty", "body"),
        ({"quantity": 0}, "quantity_not_positive", "quantity"),
        ({"quantity": "5"}, "invalid_field", "quantity"),
        ({"amount": 580.255}, "amount_off_tick", "amount"),
        ({"symbol": "IBM"}, "unknown_field", "symbol"),
        ({"quantity": 10}, "replace_without_change", None),
        ([], "invalid_json", "body"),
    ],
)
async def test_new_terms_that_are_refused(home: House, body: Any, code: str, field: str | None) -> None:
    async with home.client() as client, home.client(2) as other:
        path = (await client.post("/orders", json=GOOD)).headers["location"]
        stored = len(home.store.outbox)
        answer = await client.patch(path, json=body)
        assert (answer.json()["code"], answer.json()["field"]) == (code, field)
        assert (await other.patch(path, json={"quantity": 5})).json()["code"] == "order_not_found"
    assert len(home.store.outbox) == stored


async def test_a_preview_tells_and_stores_nothing(home: House) -> None:
    async with home.client() as client:
        before = (await client.get("/account")).content
        headers = {"Idempotency-Key": "k"}
        answer = await client.post("/orders?preview=true", json=GOOD, headers=headers)
        assert answer.status_code == 200
        assert answer.content.startswith(
            b'{"accepted":true,"estimatedCost":5802.5,"fee":1,"reserved":{"cash":5803.5,"shares":0},"checks":[{"code":'
        )
        assert all(check["passed"] and check["text"] for check in answer.json()["checks"])
        assert (await client.get("/account")).content == before
        assert (await client.get("/orders")).json()["orders"] == []
        wanted = {"orderType": "sell", "type": "MARKET", "symbol": "AAPL", "quantity": 10_001}
        refused = (await client.post("/orders?preview=true", json=wanted)).json()
        assert (refused["accepted"], refused["estimatedCost"]) == (False, 5_802_580.2)
        assert refused["reserved"] == {"cash": 0, "shares": 10_001}
        (failed,) = [check for check in refused["checks"] if not check["passed"]]
        assert (failed["code"], failed["details"]["available"]) == ("shares_insufficient", 10_000)
        assert (await client.post("/orders?preview=true", json={**GOOD, "quantity": 0})).status_code == 422
        placed = await client.post("/orders?preview=false", json=GOOD, headers=headers)
        assert (placed.status_code, "idempotent-replayed" in placed.headers) == (201, False)


async def test_what_an_account_has(home: House) -> None:
    async with home.client() as client, home.client(None, "back_office") as staff:
        await client.post("/orders", json={**GOOD, "amount": "580.1"})
        await client.post("/orders", json={**GOOD, "orderType": "sell", "amount": 590})
        account = await client.get("/account")
        assert account.content == (
            b'{"accountId":1,"status":"active","cash":{"available":9994198,"reserved":5802,"unsettled":0},'
            b'"buyingPower":9994198,"openOrders":2}'
        )
        positions = (await client.get("/positions")).json()["positions"]
        assert {"symbol": "AAPL", "quantity": 10_000, "available": 9_990, "reserved": 10, "unsettled": 0} in positions
        assert [row["symbol"] for row in positions] == sorted(row["symbol"] for row in positions)
        assert (await staff.get("/account?accountId=1")).content == account.content
        assert (await staff.get("/positions?accountId=1")).json()["positions"] == positions
        for path in ("/account", "/positions"):
            assert (await staff.get(path)).json()["code"] == "account_required"
            assert (await staff.get(f"{path}?accountId=99")).json()["code"] == "account_unknown"
            assert (await client.get(f"{path}?accountId=2")).json()["code"] == "account_unknown"
            assert (await client.get(f"{path}?accountId=x")).json()["code"] == "parameter_invalid"
            assert (await client.get(f"{path}?account=1")).json()["code"] == "parameter_invalid"


@pytest.mark.parametrize("order_id", ["x", "01890000-0000-7000-8000-000000000001"])
async def test_unknown_and_foreign_orders_are_not_found(home: House, order_id: str) -> None:
    async with home.client() as mine, home.client(2) as theirs:
        made = (await theirs.post("/orders", json=GOOD)).json()["id"]
        for path in (f"/orders/{order_id}", f"/orders/{made}", f"/orders/{order_id}/events", f"/orders/{made}/events"):
            answer = await mine.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")
        for one in (order_id, made):
            answer = await mine.delete(f"/orders/{one}")
            assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")


@pytest.mark.parametrize("role", ["back_office", "operator"])
async def test_the_house_reads_all_and_trades_nothing(home: House, role: str) -> None:
    async with home.client() as mine, home.client(None, role) as staff:
        order = (await mine.post("/orders", json=GOOD)).json()
        assert (await staff.get(f"/orders/{order['id']}")).json() == order
        assert (await staff.get("/orders?accountId=1")).json()["orders"] == [order]
        assert (await staff.get("/orders?accountId=2")).json()["orders"] == []
        for answer in (await staff.post("/orders", json=GOOD), await staff.delete(f"/orders/{order['id']}")):
            assert answer.json()["code"] == "role_may_not_trade"


async def test_pages_join_without_gap_or_double(home: House) -> None:
    async with home.client() as client:
        made = [(await client.post("/orders", json=GOOD)).json()["id"] for _ in range(7)]
        seen: list[str] = []
        query = "limit=3"
        while query:
            page = (await client.get(f"/orders?{query}")).json()
            seen += [order["id"] for order in page["orders"]]
            query = page["next"] and f"limit=3&cursor={page['next']}"
    assert seen == made[::-1]
