"""Webhooks: signed, in order per order, again until taken, bounded, and calm while the receiver is down."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Coroutine

import httpx
import pytest

from exchange_gateway.simulator import webhooks_http
from exchange_gateway.simulator.webhooks_http import SecretError, Webhooks, signature
from infra.clock import ManualClock
from tests.unit.simulator.made import NOW, SESSION, Floor

KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
Receiver = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks_http, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(webhooks_http, "PAUSE_MAX_S", 0.005)
    monkeypatch.setattr(webhooks_http, "STOP_S", 0.05)


@contextlib.asynccontextmanager
async def sending(receiver: Receiver, queue_max: int = 1000, give_up_s: float = 60) -> AsyncIterator[Webhooks]:
    stop = asyncio.Event()
    async with httpx.MockTransport(receiver) as transport:
        webhooks = Webhooks(transport, "http://receiver/webhooks", SECRET, ManualClock(NOW), 4, queue_max, give_up_s)
        running = asyncio.create_task(webhooks.run(stop))
        yield webhooks
        stop.set()
        await asyncio.wait_for(running, 5)


class Taken:
    """A receiver that refuses what `refuse` says and remembers what it took."""

    def __init__(self, refuse: Callable[[int, str], int | Exception] = lambda _attempt, _order: 204) -> None:
        self.refuse = refuse
        self.requests: list[httpx.Request] = []
        self.taken: list[tuple[str, int]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        report = json.loads(request.content)
        await asyncio.sleep(0)
        outcome = self.refuse(len(self.requests), report["exchange_order_id"])
        if isinstance(outcome, Exception):
            raise outcome
        if outcome < 300:
            self.taken.append((report["exchange_order_id"], report["venue_seq"]))
        return httpx.Response(outcome)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.taken) < count:  # noqa: ASYNC110 - the condition is another task's progress
                await asyncio.sleep(0.001)


def busy_floor(orders: int) -> Floor:
    """Every order has a NEW and two fills."""
    floor = Floor()
    for n in range(orders):
        floor.quote(999, 10, 1001, 10)
        floor.order("BUY 20 @ 1001", f"o-{n}")
        floor.quote(999, 10, 1001, 11)
    return floor


async def test_the_signature_is_that_of_standard_webhooks() -> None:
    receiver = Taken()
    async with sending(receiver) as webhooks:
        webhooks(busy_floor(1).all[:1])
        await receiver.until(1)
    (request,) = receiver.requests
    signed = f"{SESSION}-1.{SESSION}.".encode() + request.content
    expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == expected
    assert request.headers["webhook-id"] == f"{SESSION}-1"
    assert request.headers["webhook-timestamp"] == str(SESSION)
    assert json.loads(request.content)["exec_id"] == f"{SESSION}-1"


def test_a_vector_of_the_signature() -> None:
    """The example of the Standard Webhooks specification."""
    key = webhooks_http.secret_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_of_another_form_is_refused() -> None:
    with pytest.raises(SecretError):
        webhooks_http.secret_key("whsec_not base64!")


@pytest.mark.parametrize(
    "refuse",
    [
        lambda _attempt, _order: 204,
        lambda attempt, _order: 500 if attempt % 3 else 200,
        lambda attempt, _order: httpx.ConnectError("down") if attempt % 2 else 200,
        lambda attempt, _order: httpx.ReadTimeout("slow") if attempt % 4 == 0 else 200,
        lambda attempt, _order: 400 if attempt % 2 else 200,
    ],
)
async def test_every_report_arrives_in_the_order_of_its_order(refuse: Callable[[int, str], int | Exception]) -> None:
    floor, receiver = busy_floor(10), Taken(refuse)
    async with sending(receiver) as webhooks:
        for numbered in floor.all:
            webhooks([numbered])
        await receiver.until(len(floor.all))
        assert webhooks.left_out == 0
    for order in {name for name, _ in receiver.taken}:
        sequence = [seq for name, seq in receiver.taken if name == order]
        assert list(dict.fromkeys(sequence)) == list(range(1, len(set(sequence)) + 1))


async def test_one_report_that_is_refused_for_ever_holds_up_its_own_order_only() -> None:
    floor, receiver = busy_floor(6), Taken(lambda _attempt, order: 400 if order == "X1" else 200)
    async with sending(receiver) as webhooks:
        webhooks(floor.all)
        others = [n for n in floor.all if n.report.exchange_order_id != "X1"]
        await receiver.until(len(others))
    assert {name for name, _ in receiver.taken} == {f"X{n}" for n in range(2, 7)}


async def test_while_the_receiver_is_down_one_asks_for_all() -> None:
    down = True
    receiver = Taken(lambda _attempt, _order: httpx.ConnectError("down") if down else 200)
    floor = busy_floor(50)
    async with sending(receiver) as webhooks:
        webhooks(floor.all)
        async with asyncio.timeout(5):
            while len(receiver.requests) < 20:  # noqa: ASYNC110 - the condition is another task's progress
                await asyncio.sleep(0.001)
        asked = {json.loads(r.content)["exchange_order_id"] for r in receiver.requests[8:]}
        assert len(asked) == 1
        down = False
        await receiver.until(len(floor.all))


async def test_a_receiver_that_comes_back_and_refuses_one_report_gets_the_others() -> None:
    def refuse(attempt: int, order: str) -> int:
        return 503 if attempt < 4 else 400 if order == "X1" else 200

    floor, receiver = busy_floor(3), Taken(refuse)
    async with sending(receiver) as webhooks:
        webhooks(floor.all)
        await receiver.until(6)


async def test_what_finds_the_queue_full_is_left_to_the_drop_copy() -> None:
    receiver = Taken()
    async with sending(receiver, queue_max=5) as webhooks:
        webhooks(busy_floor(3).all)
        await receiver.until(5)
        assert webhooks.left_out == 4


async def test_what_is_never_taken_is_given_up() -> None:
    receiver = Taken(lambda _attempt, order: 410 if order == "X1" else 200)
    async with sending(receiver, give_up_s=0.01) as webhooks:
        webhooks(busy_floor(2).all)
        async with asyncio.timeout(5):
            while webhooks.left_out < 3:  # noqa: ASYNC110 - the condition is another task's progress
                await asyncio.sleep(0.001)
        await receiver.until(3)
