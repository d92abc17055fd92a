"""Operators' routes: who may use them, what they refuse, and what they change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import APIRouter, Depends
from structlog.testing import capture_logs

from api import app as api_app
from api.ops.dlq import as_bytes
from api.ops.doors import OpsDoors
from infra.bus import Message
from infra.bus_memory import MemoryBus
from infra.clock import Ids, ManualClock
from infra.contracts import DLQ_SUFFIX, ORDER_STATUS, ORDERS, SWITCHES, Switch, decode
from infra.dlq.index import letter_of
from infra.dlq.letters import DeadLetter, Filter
from infra.dlq.letters_memory import MemoryLetters
from infra.dlq.park import Park, why
from infra.dlq.replay import LocalTurn, Replay
from infra.principal import Principal
from infra.switches import MemorySwitches
from tests.unit.api.doors import PriceDoors, settings, token
from tests.unit.api.test_problems import checked

ORDER = "018bcfe5-687b-7000-8000-000000000001"
MISSING = "00000000-0000-4000-8000-000000000000"


class Letters(MemoryLetters):
    """Can be away."""

    away = False

    async def page(self, wanted: Filter) -> list[DeadLetter]:
        if self.away:
            raise psycopg.OperationalError("away")
        return await super().page(wanted)


@dataclass
class House:
    http: httpx.AsyncClient
    bus: MemoryBus
    letters: Letters
    turn: LocalTurn

    async def parked(self, numbers: Iterable[int], code: str = "malformed", topic: str = ORDERS) -> list[str]:
        """Letters of one order, newest last; their ids."""
        made = []
        for number in numbers:
            message = Message(topic, 3, number, ORDER.encode(), b'{"n":%d}' % number, (("event-id", b"\xff\x00"),), 1)
            headers = message.headers + why(Park(message, code, "expected an int"), "exchange-gateway")
            record = Message(topic + DLQ_SUFFIX, 1, number, message.key, message.value, headers, 1_700_000_000_123)
            made.append(letter_of(record))
        await self.letters.add(made)
        return [letter.id for letter in made]

    async def listed(self, query: str = "") -> list[str]:
        answer = await self.http.get(f"/ops/dlq{query}")
        assert answer.status_code == 200, answer.text
        return [letter["id"] for letter in answer.json()["letters"]]

    async def replayed(self, **body: Any) -> dict[str, Any]:
        answer = await self.http.post("/ops/dlq/replays", json={"reason": "mended", "ratePerS": 1000} | body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def sent(self, topic: str) -> list[Message]:
        return await (await self.bus.read([topic], "earliest")).batch(1000, 0)


def of_a_service(operator: Any) -> list[APIRouter]:
    routes = APIRouter()

    @routes.get("/ops/things")
    async def things(asker: Principal = Depends(operator)) -> dict[str, str]:
        return {"asked": asker.subject}

    return [routes]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = ManualClock()
    bus, letters, turn = MemoryBus(clock), Letters(clock), LocalTurn()
    switches = MemorySwitches(bus.producer(), clock, Ids(clock))
    doors = OpsDoors(letters, Replay(letters, bus.producer(), turn), switches, [of_a_service])
    built = api_app.build(settings(), {"ops": doors, "prices": PriceDoors(asyncio.Event())}, ("prices", "ops"), clock)
    headers = {"authorization": f"Bearer {token('operator')}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(built), base_url="http://api.test", headers=headers
    ) as http:
        yield House(http, bus, letters, turn)


# -- who ---------------------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/ops/dlq"),
    ("GET", f"/ops/dlq/{MISSING}"),
    ("POST", "/ops/dlq/replays"),
    ("POST", f"/ops/dlq/{MISSING}/discard"),
    ("POST", f"/ops/dlq/{MISSING}/restore"),
    ("GET", "/ops/switches"),
    ("PUT", "/ops/switches/global"),
    ("GET", "/ops/things"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_operators_only(house: House, method: str, path: str) -> None:
    body = {"reason": "because", "mode": "normal"} if method == "PUT" else {"reason": "because"}
    for role in ("investor", "back_office"):
        headers = {"authorization": f"Bearer {token(role)}"}
        answer = await house.http.request(method, path, json=body, headers=headers)
        checked(answer, 403, "role_not_allowed")
    del house.http.headers["authorization"]
    checked(await house.http.request(method, path, json=body), 401, "token_missing")
    assert await house.sent(SWITCHES) == []


async def test_other_doors_stay_open_to_others(house: House) -> None:
    headers = {"authorization": f"Bearer {token('investor')}"}
    assert (await house.http.get("/stockPrices?symbol=AAPL", headers=headers)).status_code == 200


# -- dead letters ------------------------------------------------------------------------------------------------------


async def test_the_list_is_paged_and_filtered(house: House) -> None:
    ids = await house.parked(range(5))
    (other,) = await house.parked([9], "handler_error", ORDER_STATUS)
    assert await house.listed() == [other, *ids[::-1]]
    page = (await house.http.get("/ops/dlq?limit=4")).json()
    assert await house.listed(f"?limit=4&cursor={page['next']}") == ids[1::-1]
    assert (await house.http.get("/ops/dlq?limit=6")).json()["next"] is None
    assert await house.listed(f"?topic={ORDER_STATUS}&code=handler_error&state=parked&orderId={ORDER}") == [other]
    assert await house.listed(f"?orderId={MISSING}") == []


async def test_a_letter_in_the_list(house: House) -> None:
    (letter_id,) = await house.parked([7])
    (letter,) = (await house.http.get("/ops/dlq")).json()["letters"]
    assert letter == {
        "id": letter_id,
        "topic": ORDERS,
        "partition": 3,
        "offset": 7,
        "code": "malformed",
        "text": "expected an int",
        "consumer": "exchange-gateway",
        "orderId": ORDER,
        "parkedAt": "2023-11-14T22:13:20.123000Z",
        "replays": 0,
        "state": "parked",
        "stateAt": None,
        "stateBy": None,
        "stateReason": None,
        "dlqTopic": ORDERS + DLQ_SUFFIX,
        "dlqPartition": 1,
        "dlqOffset": 7,
    }


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?limit=0", "invalid_field"),
        ("?limit=501", "invalid_field"),
        ("?limit=many", "invalid_field"),
        ("?cursor=7", "invalid_field"),
        ("?orderId=7", "invalid_field"),
        ("?state=lost", "invalid_field"),
        ("?topic=%00", "invalid_field"),
        ("?code=", "invalid_field"),
        ("?order_id=7", "unknown_field"),
        ("?what=7", "unknown_field"),
    ],
)
async def test_a_wrong_query_is_refused(house: House, query: str, code: str) -> None:
    checked(await house.http.get(f"/ops/dlq{query}"), 422, code)


async def test_one_letter_shows_its_record(house: House) -> None:
    (letter_id,) = await house.parked([7])
    letter = (await house.http.get(f"/ops/dlq/{letter_id}")).json()
    assert letter["key"] == {"text": ORDER, "base64": None, "bytes": 36, "cut": False}
    assert letter["value"] == {"text": '{"n":7}', "base64": None, "bytes": 7, "cut": False}
    headers = {header["name"]: header for header in letter["headers"]}
    assert headers["event-id"]["base64"] == "/wA="
    assert headers["kafka_dlt-original-partition"]["base64"] == "AAAAAw=="
    assert headers["kafka_dlt-exception-fqcn"]["text"] == "malformed"
    checked(await house.http.get(f"/ops/dlq/{MISSING}"), 404, "dead_letter_not_found")
    checked(await house.http.get("/ops/dlq/7"), 422, "invalid_field")


def test_bytes_are_shown_within_bounds() -> None:
    assert as_bytes(b"", 3) == {"text": "", "bytes": 0, "cut": False}
    assert as_bytes("aüü".encode(), 4) == {"text": "aü", "bytes": 5, "cut": True}
    assert as_bytes("aü".encode(), 3) == {"text": "aü", "bytes": 3, "cut": False}
    assert as_bytes(b"a\xc3", 3) == {"base64": "YcM=", "bytes": 2, "cut": False}
    assert as_bytes(b"a\x1b[2J", 9) == {"base64": "YRtbMko=", "bytes": 5, "cut": False}
    assert as_bytes(b"\xff" * 9, 3) == {"base64": "////", "bytes": 9, "cut": True}


async def test_named_letters_are_replayed_in_their_order(house: House) -> None:
    ids = await house.parked(range(4))
    told = await house.replayed(ids=[ids[2], MISSING, ids[0], ids[2]])
    assert told == {
        "results": [
            {"id": ids[0], "outcome": "replayed", "state": "replayed"},
            {"id": ids[2], "outcome": "replayed", "state": "replayed"},
            {"id": MISSING, "outcome": "not_found", "state": None},
        ],
        "more": False,
    }
    assert [message.value for message in await house.sent(ORDERS)] == [b'{"n":0}', b'{"n":2}']
    again = await house.replayed(ids=[ids[0]])
    assert again["results"] == [{"id": ids[0], "outcome": "not_parked", "state": "replayed"}]
    assert await house.listed("?state=parked") == [ids[3], ids[1]]


async def test_all_of_a_cause_are_replayed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await house.parked(range(3))
    await house.parked([7], "handler_error")
    await house.parked([8], topic=ORDER_STATUS)
    monkeypatch.setattr("api.ops.dlq.LETTERS_MAX", 2)
    told = await house.replayed(topic=ORDERS, code="malformed")
    assert ([result["id"] for result in told["results"]], told["more"]) == (ids[:2], True)
    told = await house.replayed(topic=ORDERS, code="malformed")
    assert ([result["id"] for result in told["results"]], told["more"]) == (ids[2:], False)
    assert await house.replayed(topic=ORDERS, code="malformed") == {"results": [], "more": False}
    assert len(await house.sent(ORDERS)) == 3
    assert await house.sent(ORDER_STATUS) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_field"),
        ({"reason": "r"}, "replay_selection_invalid"),
        ({"reason": "r", "topic": "orders"}, "replay_selection_invalid"),
        ({"reason": "r", "ids": [MISSING], "code": "c"}, "replay_selection_invalid"),
        ({"reason": "r", "ids": [MISSING] * 2, "topic": "t", "code": "c"}, "replay_selection_invalid"),
        ({"reason": "r", "ids": []}, "invalid_field"),
        ({"reason": "r", "ids": [MISSING] * 301}, "invalid_field"),
        ({"reason": "r", "ids": ["7"]}, "invalid_field"),
        ({"reason": "  ", "ids": [MISSING]}, "invalid_field"),
        ({"reason": "r" * 501, "ids": [MISSING]}, "invalid_field"),
        ({"reason": "a\0b", "ids": [MISSING]}, "invalid_field"),
        ({"reason": "r", "ids": [MISSING], "ratePerS": 0}, "invalid_field"),
        ({"reason": "r", "ids": [MISSING], "ratePerS": "5"}, "invalid_field"),
        ({"reason": "r", "ids": [MISSING], "ratePerS": 1001}, "invalid_field"),
        ({"reason": "r", "ids": [MISSING], "rate": 5}, "unknown_field"),
        ({"reason": "r", "ids": [f"{MISSING[:-2]}{i}" for i in range(10, 41)], "ratePerS": 1}, "replay_too_long"),
    ],
)
async def test_a_wrong_replay_is_refused(house: House, body: dict[str, Any], code: str) -> None:
    ids = await house.parked([1])
    checked(await house.http.post("/ops/dlq/replays", json=body), 422, code)
    assert await house.listed("?state=parked") == ids


async def test_one_replay_at_a_time(house: House) -> None:
    await house.parked([1])
    wanted = {"topic": ORDERS, "code": "malformed", "reason": "mended"}
    async with house.turn():
        refused = checked(await house.http.post("/ops/dlq/replays", json=wanted), 409, "replay_running")
    assert refused["details"] == {"retry_after_s": 30}
    assert (await house.http.post("/ops/dlq/replays", json=wanted)).status_code == 200


async def test_a_discard_is_signed_and_can_be_taken_back(house: House) -> None:
    (letter_id,) = await house.parked([1])
    path = f"/ops/dlq/{letter_id}"
    checked(await house.http.post(f"{path}/restore", json={"reason": "r"}), 409, "dead_letter_not_discarded")
    with capture_logs() as logs:
        discarded = await house.http.post(f"{path}/discard", json={"reason": " done by hand "})
    assert (discarded.status_code, discarded.json()["state"]) == (200, "discarded")
    assert (discarded.json()["stateBy"], discarded.json()["stateReason"]) == ("test-operator", "done by hand")
    assert [(log["by"], log["reason"]) for log in logs if log["event"] == "dead_letter_marked"] == [
        ("test-operator", "done by hand")
    ]
    refused = checked(await house.http.post(f"{path}/discard", json={"reason": "again"}), 409, "dead_letter_not_parked")
    assert refused["details"] == {"state": "discarded", "by": "test-operator"}
    assert (await house.replayed(ids=[letter_id]))["results"][0]["outcome"] == "not_parked"
    restored = await house.http.post(f"{path}/restore", json={"reason": "a mistake"})
    assert (restored.status_code, restored.json()["state"]) == (200, "parked")
    assert (await house.replayed(ids=[letter_id]))["results"][0]["outcome"] == "replayed"
    missing = await house.http.post(f"/ops/dlq/{MISSING}/discard", json={"reason": "r"})
    checked(missing, 404, "dead_letter_not_found")
    checked(await house.http.post(f"{path}/discard", json={}), 422, "missing_field")


async def test_a_store_that_is_away_is_said(house: House) -> None:
    house.letters.away = True
    checked(await house.http.get("/ops/dlq"), 503, "ops_unavailable")


# -- switches ----------------------------------------------------------------------------------------------------------


async def test_a_switch_is_set_told_and_lifted(house: House) -> None:
    assert (await house.http.get("/ops/switches")).json() == {"switches": []}
    with capture_logs() as logs:
        answer = await house.http.put(
            "/ops/switches/symbol:BRK.B", json={"mode": "cancel_only", "reason": "bad prints"}
        )
    told = {
        "scope": "symbol:BRK.B",
        "mode": "cancel_only",
        "reason": "bad prints",
        "by": "test-operator",
        "at": "2023-11-14T22:13:20Z",
    }
    assert (answer.status_code, answer.json()) == (200, told)
    assert ("switch_set", "test-operator", "bad prints") in [
        (log["event"], log.get("by"), log.get("reason")) for log in logs
    ]
    assert (await house.http.get("/ops/switches")).json() == {"switches": [told]}
    await house.http.put("/ops/switches/symbol:BRK.B", json={"mode": "normal", "reason": "over"})
    said: list[Switch] = [decode(Switch, message.value) for message in await house.sent(SWITCHES)]
    assert [(switch.scope, switch.mode) for switch in said] == [
        ("symbol:BRK.B", "cancel_only"),
        ("symbol:BRK.B", "normal"),
    ]


@pytest.mark.parametrize(
    "scope",
    [
        "everything",
        "symbol:",
        "symbol:aapl",
        "symbol:ABCDEFGHIJKLM",
        "symbol:A%00",
        "account:0",
        "account:07",
        "account:x",
        "GLOBAL",
        "global%0A",
    ],
)
async def test_a_scope_that_is_none_is_refused(house: House, scope: str) -> None:
    answer = await house.http.put(f"/ops/switches/{scope}", json={"mode": "cancel_only", "reason": "r"})
    checked(answer, 422, "switch_scope_invalid")
    assert await house.sent(SWITCHES) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"mode": "cancel_only"}, "missing_field"),
        ({"reason": "r"}, "missing_field"),
        ({"mode": "off", "reason": "r"}, "invalid_field"),
        ({"mode": "cancel_only", "reason": ""}, "invalid_field"),
        ({"mode": "cancel_only", "reason": 7}, "invalid_field"),
        ({"mode": "cancel_only", "reason": "\ud800"}, "invalid_field"),
        ({"mode": "cancel_only", "reason": "r", "by": "somebody"}, "unknown_field"),
    ],
)
async def test_a_wrong_switch_is_refused(house: House, body: dict[str, Any], code: str) -> None:
    escaped, headers = json.dumps(body), {"content-type": "application/json"}
    checked(await house.http.put("/ops/switches/global", content=escaped, headers=headers), 422, code)
    assert await house.sent(SWITCHES) == []
