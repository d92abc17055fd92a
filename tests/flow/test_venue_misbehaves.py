"""Misbehaviour over real sockets: what a client sees of each kind, and what the venue knows afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from exchange_gateway.simulator.journal_reader import read_all
from infra.process import serve_http
from tests.flow.venue_running import DEADLINE_S, KEY, SYMBOL, Exchange, exec_types, free_port, process, running
from tests.unit.exchange_gateway.simulated import Simulator, simulator


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A process of its own, as the connections that break are its own."""
    with simulator(tmp_path_factory.mktemp("venue"), chaos_allowed="yes") as made:
        yield made


@pytest.fixture
async def venue(apart: Simulator) -> AsyncIterator[Exchange]:
    async with httpx.AsyncClient(base_url=apart.url, headers=KEY, trust_env=False, timeout=DEADLINE_S) as client:
        yield Exchange(int(apart.url.rpartition(":")[2]), client)


async def rules(exchange: Exchange, *given: dict[str, Any]) -> None:
    assert (await exchange.client.delete("/chaos")).status_code == 200
    answer = await exchange.client.post("/chaos", json={"rules": list(given)})
    assert answer.status_code == 200, answer.text


async def known(exchange: Exchange, cl_ord_id: str) -> bool:
    answer = await exchange.client.get(f"/orders/{cl_ord_id}")
    assert answer.status_code in (200, 404)
    return answer.status_code == 200


async def raw(exchange: Exchange, cl_ord_id: str) -> bytes:
    """All bytes that come back for an order, until the connection ends."""
    body = json.dumps(exchange.terms(cl_ord_id)).encode()
    head = (
        f"POST /orders HTTP/1.1\r\nhost: v\r\nauthorization: Bearer venue-key\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
    writer.write(head.encode() + body)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await reader.read()
    finally:
        writer.close()


async def test_each_broken_answer(venue: Exchange) -> None:
    """One process for all of them: each kind strikes once, and the order is there or not."""

    async def struck(kind: str, cl_ord_id: str, **terms: Any) -> None:
        await rules(venue, {"kind": kind, "count": 1, **terms})

    await struck("lost_response", "lost")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await venue.order("lost")
    assert await known(venue, "lost")

    await struck("truncated_body", "truncated")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await venue.order("truncated")
    assert await known(venue, "truncated")

    await struck("reset_mid_body", "reset")
    with pytest.raises(httpx.ReadError):
        await venue.order("reset")
    assert await known(venue, "reset")

    await struck("garbage_body", "garbage")
    answer = await venue.order("garbage")
    assert answer.status_code == 200
    with pytest.raises(ValueError):
        answer.json()
    assert await known(venue, "garbage")

    for kind, recorded in (("server_error_before", False), ("server_error_after", True)):
        await struck(kind, kind, status=502)
        answer = await venue.order(kind)
        assert (answer.status_code, answer.headers["content-type"][:9]) == (502, "text/html")
        assert await known(venue, kind) is recorded

    await struck("too_many_requests", "many", retry_after_s=7)
    answer = await venue.order("many")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "too_many_requests"
    assert not await known(venue, "many")

    shown = (await venue.client.get("/chaos")).json()["rules"]
    assert [(s["rule"]["kind"], s["seen"], s["applied"]) for s in shown] == [("too_many_requests", 1, 1)]


async def test_what_a_broken_answer_is_on_the_wire(venue: Exchange) -> None:
    await rules(venue, {"kind": "lost_response", "count": 1})
    assert await raw(venue, "wire-1") == b""
    await rules(venue, {"kind": "truncated_body", "count": 1})
    head, _, body = (await raw(venue, "wire-2")).partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    assert body.startswith(b'{"reports":[')
    assert len(body) == length // 2
    await rules(venue, {"kind": "reset_mid_body", "count": 1})
    with pytest.raises(ConnectionResetError):
        await raw(venue, "wire-3")


async def test_slow_drip(venue: Exchange) -> None:
    await rules(venue, {"kind": "slow_drip", "count": 1, "delay_s": 0.001})
    chunks = []
    async with venue.client.stream("POST", "/orders", json=venue.terms("drip")) as answer:
        async for chunk in answer.aiter_raw():
            chunks.append(chunk)  # noqa: PERF401
    assert [r["cl_ord_id"] for r in json.loads(b"".join(chunks))["reports"]] == ["drip"]
    assert len(chunks) > 20, "it came in pieces"
    await rules(venue, {"kind": "slow_drip", "count": 1, "delay_s": 60})
    impatient = httpx.Timeout(DEADLINE_S, read=0.3)
    with pytest.raises(httpx.ReadTimeout):
        await venue.client.post("/orders", json=venue.terms("drop"), timeout=impatient)
    assert await known(venue, "drop")


async def test_delayed_acceptance(venue: Exchange) -> None:
    await rules(venue, {"kind": "delayed_acceptance", "count": 1, "delay_s": 3})
    with pytest.raises(httpx.RemoteProtocolError):
        await venue.order("late")
    assert not await known(venue, "late")
    async with asyncio.timeout(DEADLINE_S):
        while not await known(venue, "late"):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert (await venue.order("late")).status_code == 409
    await rules(venue, {"kind": "delayed_acceptance", "count": 1, "delay_s": 3})
    with pytest.raises(httpx.RemoteProtocolError):
        await venue.order("both")
    assert exec_types(await venue.order("both")) == ["NEW"]


async def test_a_query_can_be_struck_when_it_is_named(venue: Exchange) -> None:
    await rules(venue, {"kind": "server_error_before", "on": ["query"], "count": 1})
    assert (await venue.client.get("/orders/none")).status_code == 503
    assert (await venue.client.get("/orders/none")).status_code == 404


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with running(tmp_path, chaos_allowed="yes") as made:
        yield made


async def test_without_permission_nobody_makes_the_venue_misbehave(tmp_path: Path) -> None:
    async with running(tmp_path) as exchange:
        for method, path in (("GET", "/chaos"), ("POST", "/chaos"), ("POST", "/executions/1-1/bust")):
            answer = await exchange.client.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "chaos_not_allowed")
        locked = await exchange.client.get("/chaos", headers={"authorization": "Bearer other"})
        assert locked.status_code == 401


async def test_rules_that_make_no_sense_change_nothing(exchange: Exchange) -> None:
    for content in (b"{", b'{"rules":[{"kind":"bust","probability":2}]}', b'{"rules":[{"kind":"no"}]}'):
        answer = await exchange.client.post("/chaos", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert (await exchange.client.get("/chaos")).json() == {"rules": []}


async def test_a_scenario_file_is_in_force_from_the_start(tmp_path: Path) -> None:
    storm = tmp_path / "storm.json"
    storm.write_text('{"rules":[{"kind":"too_many_requests","count":1}]}')
    async with running(tmp_path, scenario=str(storm)) as exchange:
        assert [(await exchange.order("a")).status_code for _ in range(2)] == [429, 200]


async def filled(exchange: Exchange, cl_ord_id: str) -> dict[str, Any]:
    """A fill of one share, as soon as there is a quote."""
    async with asyncio.timeout(DEADLINE_S):
        for n in range(10_000):
            answer = await exchange.order(f"{cl_ord_id}-{n}", limit_micros=10_000_000_000, tif="IOC", quantity=1)
            reports: list[dict[str, Any]] = answer.json()["reports"]
            if reports[-1]["exec_type"] == "TRADE":
                return reports[-1]
            await asyncio.sleep(0.02)
    raise AssertionError


async def test_people_bust_and_correct_fills(exchange: Exchange) -> None:
    fill = await filled(exchange, "a")
    right = {"last_qty": 1, "last_micros": fill["last_micros"] + 10_000}
    answer = await exchange.client.post(f"/executions/{fill['exec_id']}/correct", json=right)
    assert exec_types(answer) == ["TRADE_CORRECT"]
    answer = await exchange.client.post(f"/executions/{fill['exec_id']}/bust")
    assert exec_types(answer) == ["TRADE_CANCEL", "CANCELED"]
    assert {r["exec_ref_id"] for r in answer.json()["reports"]} == {fill["exec_id"], None}
    again = await exchange.client.post(f"/executions/{fill['exec_id']}/bust")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "busted")
    listed = (await exchange.client.get("/executions")).json()["reports"]
    assert [r["exec_type"] for r in listed] == ["TRADE", "TRADE_CORRECT", "TRADE_CANCEL"]
    for path, body, status in (("1-1/bust", {}, 404), ("1-1/correct", right, 404), ("1-1/correct", {}, 400)):
        assert (await exchange.client.post(f"/executions/{path}", json=body)).status_code == status


async def test_a_halt_is_told_on_the_feed_and_ends(exchange: Exchange) -> None:
    async with exchange.socket("/market-data") as feed:
        await rules(exchange, {"kind": "halted_symbol", "count": 1, "delay_s": 3})
        assert (await exchange.order("a")).json()["reports"][0]["reason"]["code"] == "halted"
        told = [await _status(feed, "halt")]
        async with exchange.socket("/market-data") as late:
            assert await _status(late, "halt") == told[0]
        told.append(await _status(feed, "resume"))
    assert {status["symbol"] for status in told} == {SYMBOL}
    assert exec_types(await exchange.order("b")) == ["NEW"]


async def _status(feed: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            frame: dict[str, Any] = json.loads(await feed.recv())
            if frame["type"] == "status" and frame["status"]["kind"] == kind:
                status: dict[str, Any] = frame["status"]
                return status


async def _closed(stream: ClientConnection) -> None:
    """Read what is still there, up to the end of the connection."""
    async with asyncio.timeout(DEADLINE_S):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await stream.recv()


async def test_disconnect_cuts_all_sockets(exchange: Exchange) -> None:
    async with exchange.socket("/market-data") as feed, exchange.socket("/drop-copy?after=0") as copy:
        await feed.recv()
        await rules(exchange, {"kind": "disconnect", "count": 1})
        await exchange.order("a")
        await _closed(feed)
        await _closed(copy)


async def test_a_missing_frame_and_a_cut_drop_copy_are_found_by_reading_again(exchange: Exchange) -> None:
    for _ in range(4):
        await exchange.order()
    await rules(
        exchange,
        {"kind": "missing_frame", "from_event": 2, "count": 1},
        {"kind": "drop_copy_disconnect", "from_event": 4, "count": 1},
    )
    async with exchange.socket("/drop-copy?after=0") as copy:
        assert [json.loads(await copy.recv())["n"] for _ in range(2)] == [1, 3]
        with pytest.raises(ConnectionClosed):
            await copy.recv()
    async with exchange.socket("/drop-copy?after=0") as copy:
        assert [json.loads(await copy.recv())["n"] for _ in range(4)] == [1, 2, 3, 4]


async def test_webhooks_are_doubled_and_cut_ones_go_again(tmp_path: Path) -> None:
    taken: list[str] = []
    receiver, stop, port = FastAPI(), asyncio.Event(), free_port()
    waits = asyncio.Event()

    @receiver.post("/hooks")
    async def hook(request: Request) -> Response:
        taken.append(json.loads(await request.body())["cl_ord_id"])
        if taken.count("cut") == 1 and taken[-1] == "cut":
            await waits.wait()
        return Response(status_code=204)

    serving = asyncio.create_task(serve_http(receiver, "127.0.0.1", port, stop))
    url = f"http://127.0.0.1:{port}/hooks"
    async with running(tmp_path, chaos_allowed="yes", webhooks="true", webhook_url=url) as exchange:
        await rules(exchange, {"kind": "duplicate_report", "count": 1})
        await exchange.order("twice")
        await _until(lambda: taken.count("twice") == 2)
        await exchange.order("cut")
        await _until(lambda: taken.count("cut") == 1)
        await rules(exchange, {"kind": "disconnect", "count": 1})
        await exchange.order("next")
        await _until(lambda: taken.count("cut") == 2)
    waits.set()
    stop.set()
    await serving


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 - a condition with a deadline
            await asyncio.sleep(0.02)


async def test_a_restart_without_memory(tmp_path: Path) -> None:
    async with process(tmp_path, chaos_allowed="yes") as (exchange, pid):
        before = (await exchange.order("a")).json()["reports"][0]
        async with exchange.socket("/drop-copy?after=0") as copy:
            await rules(exchange, {"kind": "restart_without_memory", "count": 1})
            with pytest.raises(httpx.RemoteProtocolError):
                await exchange.order("b")
            await _closed(copy)
        assert not await known(exchange, "a")
        async with exchange.socket("/drop-copy?after=1") as copy:
            with pytest.raises(ConnectionClosed) as closed:
                await copy.recv()
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4416
        async with asyncio.timeout(DEADLINE_S):
            while (answer := await exchange.order("a")).status_code == 503:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        after = answer.json()["reports"][0]
        assert after["session"] > before["session"]
        assert after["exec_id"] != before["exec_id"]
        os.kill(pid, signal.SIGKILL)
    told = [r.exec_id for entry in read_all(tmp_path / "venue") for r in entry.reports]
    assert told == [before["exec_id"], after["exec_id"]], "a checker reads both lives"
    async with process(tmp_path) as (exchange, _):
        assert (await exchange.client.get("/orders/a")).json()["reports"] == [after]
        assert (await exchange.order()).json()["reports"][0]["session"] > after["session"]
