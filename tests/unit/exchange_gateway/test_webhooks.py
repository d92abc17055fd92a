"""Who may tell us of reports, and when we say that we have one."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from exchange_gateway.reports import webhooks
from exchange_gateway.reports.publish import StatusPublisher
from exchange_gateway.reports.signature import BadSignature, key_of, signature, verify
from infra.bus import BusError
from infra.bus_memory import MemoryBus, MemoryProducer
from infra.clock import NS_PER_S, ManualClock
from infra.contracts import ORDER_STATUS, Headers, Report, decode, encode
from tests.unit.exchange_gateway.words import TRACE, order_id, read_all, venue_report

NOW_S = 1_700_000_000
KEY = b"0123456789abcdef0123456789abcdef"
BODY = encode(venue_report())


def signed(body: bytes = BODY, stamp: str = str(NOW_S), key: bytes = KEY, identity: str = "1-1") -> dict[str, str]:
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": signature(identity, stamp, body, key),
        "traceparent": TRACE,
    }


def test_the_published_example_of_the_specification() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verify(headers, b'{"test": 2432232314}', [key], 1614265330)


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("no headers", {}),
        ("no signature", signed() | {"webhook-signature": ""}),
        ("other key", signed(key=b"x" * 32)),
        ("other body", signed(body=BODY + b" ")),
        ("other id", signed() | {"webhook-id": "1-2"}),
        ("other version", signed() | {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v1a,")}),
        ("not ascii", signed() | {"webhook-signature": "v1,é"}),
        ("timestamp moved", signed() | {"webhook-timestamp": str(NOW_S + 1)}),
        ("too old", signed(stamp=str(NOW_S - 301))),
        ("from the future", signed(stamp=str(NOW_S + 301))),
        ("no number", signed(stamp="now")),
        ("sign", signed(stamp="+1700000000")),
        ("other digits", signed(stamp="١٧٠٠٠٠٠٠٠٠")),
        ("huge", signed(stamp="9" * 5000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(what: str, headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(headers, BODY, [KEY], NOW_S)


@pytest.mark.parametrize("stamp", [NOW_S - 300, NOW_S, NOW_S + 300])
def test_taken_within_the_window(stamp: int) -> None:
    verify(signed(stamp=str(stamp)), BODY, [KEY], NOW_S)


def test_one_of_several_signatures_is_enough() -> None:
    headers = signed()
    headers["webhook-signature"] = "v1,AAAA v2,BBBB " + headers["webhook-signature"]
    verify(headers, BODY, [KEY], NOW_S)


def test_while_keys_change_each_of_ours_is_good() -> None:
    former = b"f" * 32
    for key in (KEY, former):
        verify(signed(key=key), BODY, [KEY, former], NOW_S)
    with pytest.raises(BadSignature):
        verify(signed(key=former), BODY, [KEY], NOW_S)
    with pytest.raises(BadSignature):
        verify(signed(), BODY, [], NOW_S)


def test_a_secret_is_base64() -> None:
    assert key_of("whsec_" + base64.b64encode(KEY).decode()) == KEY
    with pytest.raises(ValueError, match="whsec_"):
        key_of("whsec_not base64!")


class Door:
    """The route over a memory bus."""

    def __init__(self) -> None:
        self.clock = clock = ManualClock(NOW_S * NS_PER_S)
        self.bus = MemoryBus(clock)
        self.publisher = StatusPublisher(self.bus.producer(), clock)
        app = FastAPI()
        app.include_router(webhooks.routes(self.publisher, [KEY], clock))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")

    async def post(self, body: bytes = BODY, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.post("/webhooks", content=body, headers=signed(body) if headers is None else headers)


async def test_a_report_is_durable_when_204_is_said() -> None:
    door = Door()
    assert (await door.post()).status_code == 204
    [record] = await read_all(door.bus, ORDER_STATUS)
    report: Report = decode(Report, record.value)
    assert (report.source, report.exec_id, report.order_id) == ("webhook", "1700000000-1", order_id())
    assert record.key == order_id().encode()
    assert record.header("event-id") == b"1700000000-1700000000-1-webhook"
    assert record.header("traceparent") == TRACE.encode()
    assert record.header("schema") == b"1"


async def test_what_was_taken_is_not_published_again() -> None:
    door = Door()
    later = signed(stamp=str(NOW_S + 1))  # the venue itself, because our answer was lost
    for headers in (signed(), signed(), later):
        assert (await door.post(headers=headers)).status_code == 204
    assert len(await read_all(door.bus, ORDER_STATUS)) == 1


async def test_a_known_id_with_another_body_is_another_message() -> None:
    door = Door()
    assert (await door.post()).status_code == 204
    other = encode(venue_report(last_qty=5))
    assert (await door.post(other)).status_code == 204
    assert len(await read_all(door.bus, ORDER_STATUS)) == 2, "order_service decides which of them counts"


def test_what_was_taken_is_remembered_as_long_as_a_signature_can_hold_and_bounded() -> None:
    taken = webhooks.Taken(most=2)
    for number, at_s in ((1, 0), (2, 600), (3, 601)):
        taken.add((str(number), b""), at_s)
    assert [(str(n), b"") in taken for n in (1, 2, 3)] == [False, True, True]
    taken.add(("4", b""), 602)
    assert ("2", b"") not in taken
    first = webhooks.Taken()
    first.add(("1", b""), 0)
    first.add(("2", b""), 599)
    assert ("1", b"") in first


@pytest.mark.parametrize(
    ("status", "code", "body", "headers"),
    [
        (401, "bad_signature", BODY, {}),
        (401, "bad_signature", BODY, signed(stamp=str(NOW_S - 301))),
        (400, "malformed", b"{", signed(b"{")),
        (400, "malformed", b"{}", signed(b"{}")),
        (400, "malformed", b"", signed(b"")),
        (413, "too_large", b"x" * (64 * 1024 + 1), signed(b"x" * (64 * 1024 + 1))),
    ],
)
async def test_refused_and_nothing_published(status: int, code: str, body: bytes, headers: dict[str, str]) -> None:
    door = Door()
    answer = await door.post(body, headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not await read_all(door.bus, ORDER_STATUS)


class Deaf(MemoryProducer):
    """A producer whose records never become durable, or are refused."""

    def __init__(self, refuse: bool) -> None:
        super().__init__(MemoryBus(ManualClock()))
        self._refuse = refuse

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        if self._refuse:
            raise BusError("the producer's queue is full")
        return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("producer", [lambda: Deaf(True), lambda: Deaf(False)])
async def test_503_while_the_bus_does_not_take_it(
    producer: Callable[[], Deaf], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "DURABLE_S_MAX", 0.01)
    clock = ManualClock(NOW_S * NS_PER_S)
    app = FastAPI()
    app.include_router(webhooks.routes(StatusPublisher(producer(), clock), [KEY], clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.post("/webhooks", content=BODY, headers=signed())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "bus_unavailable")


async def test_a_request_that_ends_before_its_body_is_refused() -> None:
    app, sent = FastAPI(), []
    app.include_router(webhooks.routes(StatusPublisher(Deaf(True), ManualClock()), [KEY], ManualClock()))

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/webhooks", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert sent[0]["status"] == 400
