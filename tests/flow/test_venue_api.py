"""The exchange simulator over real sockets on loopback, word for word as docs/venue-api.md says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange_gateway.simulator.webhooks_http import secret_key, signature
from infra.process import serve_http
from tests.flow.venue_running import (
    DEADLINE_S,
    SECRET,
    SYMBOL,
    SYMBOLS,
    Exchange,
    exec_types,
    frames_until,
    free_port,
    process,
    running,
)


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with running(tmp_path) as made:
        yield made


# -- order entry -------------------------------------------------------------------------------------------------------


async def test_an_order_from_its_submit_to_its_cancel(exchange: Exchange) -> None:
    submitted = await exchange.order("a-1")
    assert exec_types(submitted) == ["NEW"]
    report = submitted.json()["reports"][0]
    assert set(report) == {
        *("kind", "exec_id", "exec_ref_id", "exec_type", "order_status", "cl_ord_id", "orig_cl_ord_id"),
        *("exchange_order_id", "symbol", "side", "quantity", "limit_micros", "last_qty", "last_micros", "cum_qty"),
        *("leaves_qty", "venue_seq", "transact_ns", "session", "reason"),
    }
    replaced = await exchange.client.post("/orders/a-1/replace", json={"cl_ord_id": "a-2", "quantity": 7})
    assert exec_types(replaced) == ["REPLACED"]
    found = (await exchange.client.get("/orders/a-1")).json()
    assert found["order"] == {
        "cl_ord_id": "a-2",
        "exchange_order_id": report["exchange_order_id"],
        "symbol": SYMBOL,
        "side": "BUY",
        "ord_type": "LIMIT",
        "tif": "GTC",
        "quantity": 7,
        "limit_micros": 10_000,
        "order_status": "NEW",
        "cum_qty": 0,
        "leaves_qty": 7,
        "cum_notional_micros": 0,
        "venue_seq": 2,
        "session": report["session"],
    }
    canceled = await exchange.client.post("/orders/a-2/cancel", json={"cl_ord_id": "a-3"})
    assert exec_types(canceled) == ["CANCELED"]
    found = (await exchange.client.get("/orders/a-3")).json()
    answered = [a.json()["reports"][0] for a in (submitted, replaced, canceled)]
    assert found["reports"] == answered
    late = await exchange.client.post("/orders/a-1/cancel", json={"cl_ord_id": "a-4"})
    assert exec_types(late) == ["cancel_reject"]


async def test_a_market_order_is_filled_in_its_answer(exchange: Exchange) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await exchange.order(ord_type="MARKET", limit_micros=None, tif="DAY")
            if exec_types(answer) != ["REJECTED"]:
                break
            # The session is open, but the symbol's first quote may be a moment away.
            assert answer.json()["reports"][0]["reason"]["code"] == "no_liquidity"
    assert exec_types(answer)[:2] == ["NEW", "TRADE"]
    assert answer.json()["reports"][-1]["order_status"] in ("FILLED", "CANCELED")


async def test_a_batch_has_one_result_each_in_order(exchange: Exchange) -> None:
    orders = [exchange.terms("b-1"), exchange.terms("b-1"), exchange.terms(quantity="ten"), exchange.terms(quantity=0)]
    answer = await exchange.client.post("/orders/batch", json={"orders": [*orders, "no order", exchange.terms("b-2")]})
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [200, 409, 400, 200, 400, 200]
    assert [r.get("error", {}).get("code") for r in results[:3]] == [None, "duplicate_cl_ord_id", "malformed"]
    assert results[3]["reports"][0]["exec_type"] == "REJECTED"
    for count in (0, 101):
        body = {"orders": [exchange.terms() for _ in range(count)]}
        assert (await exchange.client.post("/orders/batch", json=body)).status_code == 400


async def test_malformed_orders_record_nothing(exchange: Exchange) -> None:
    changes: list[dict[str, Any]] = [
        {"quantity": "10"},
        {"quantity": 1.5},
        {"quantity": 10**30},
        {"side": "buy"},
        {"tif": "NEVER"},
        {"ord_type": "STOP"},
        {"limit_micros": None},
        {"ord_type": "MARKET"},
        {"cl_ord_id": "with space"},
        {"cl_ord_id": "x" * 65},
        {"symbol": ""},
    ]
    bodies = [json.dumps(exchange.terms("m-1") | change).encode() for change in changes]
    for body in [*bodies, b"{", b"[]", b"", b'{"cl_ord_id":"\xff"}']:
        answer = await exchange.client.post("/orders", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed"), body
    assert (await exchange.client.get("/orders/m-1")).status_code == 404
    assert (await exchange.client.get("/orders")).json() == {"total": 0, "orders": [], "next": None}


async def test_errors_have_one_form(exchange: Exchange) -> None:
    client = exchange.client
    await exchange.order("d-1")
    again = await exchange.order("d-1", quantity=99)
    missing = await client.get("/orders/none")
    large = await client.post("/orders", content=b"{" + b" " * 70_000)
    large_batch = await client.post("/orders/batch", content=b"{" + b" " * 1_100_000)
    page = await client.get("/orders", params={"limit": "1001"})
    elsewhere = await client.get("/nothing/here")
    locked = await client.get("/orders", headers={"authorization": "Bearer other"})
    found = [
        (a.status_code, a.json()["error"]["code"])
        for a in (again, missing, large, large_batch, page, elsewhere, locked)
    ]
    assert found == [
        (409, "duplicate_cl_ord_id"),
        (404, "unknown_order"),
        (413, "too_large"),
        (413, "too_large"),
        (400, "malformed"),
        (404, "not_found"),
        (401, "unauthorized"),
    ]


async def test_a_body_without_a_length_is_bounded_too(exchange: Exchange) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    answer = await exchange.client.post("/orders", content=endless())
    assert answer.status_code == 413


async def test_mass_status_and_executions_are_paged_to_their_totals(exchange: Exchange) -> None:
    for _ in range(7):
        await exchange.order(limit_micros=10_000_000_000, tif="IOC", quantity=1)
    orders, after = [], 0
    while after is not None:
        page = (await exchange.client.get("/orders", params={"after": after, "limit": 3})).json()
        orders += page["orders"]
        after = page["next"]
    assert len(orders) == page["total"] == 7
    page = (await exchange.client.get("/executions", params={"limit": 1000})).json()
    assert len(page["reports"]) == page["total"] >= 1
    assert sum(r["last_qty"] for r in page["reports"]) == sum(o["cum_qty"] for o in orders)


# -- streams -----------------------------------------------------------------------------------------------------------


async def test_the_feed_tells_every_tick_and_resumes(exchange: Exchange) -> None:
    async with exchange.socket("/market-data") as feed:
        frames = await frames_until(feed, 300)
    assert [f["type"] for f in frames[:2]] == ["instruments", "status"]
    assert len(frames[0]["instruments"]) == SYMBOLS
    session = frames[1]["status"]["session"]
    first = next(f for f in frames if f["type"] == "ticks")
    start = first["n"] - len(first["ticks"])
    seen = [t for f in frames for t in f.get("ticks", [])]
    async with exchange.socket(f"/market-data?session={session}&after={start + 7}") as feed:
        again = await frames_until(feed, len(seen) - 7)
    assert [t for f in again for t in f.get("ticks", [])][: len(seen) - 7] == seen[7:]
    listed = (await exchange.client.get("/market-data/sessions")).json()
    assert listed[0]["session"] == session
    assert listed[0]["open"] is True
    assert listed[0]["ticks"] == sum(listed[0]["symbols"].values())


async def test_the_drop_copy_repeats_the_answers_from_any_number(exchange: Exchange) -> None:
    answers = [await exchange.order() for _ in range(3)]
    told = [r for a in answers for r in a.json()["reports"]]
    async with exchange.socket("/drop-copy?after=0") as copy:
        stored = [json.loads(await copy.recv()) for _ in told]
        assert stored == [{"n": n, "report": r} for n, r in enumerate(told, 1)]
        late = (await exchange.order()).json()["reports"][0]
        live = json.loads(await asyncio.wait_for(copy.recv(), DEADLINE_S))
        assert live == {"n": len(told) + 1, "report": late}
    async with exchange.socket(f"/drop-copy?after={len(told)}") as copy:
        assert json.loads(await copy.recv()) == live


async def test_a_number_that_never_was_closes_the_drop_copy(exchange: Exchange) -> None:
    async with exchange.socket("/drop-copy?after=100000") as copy:
        with pytest.raises(ConnectionClosed) as closed:
            await copy.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 4416


@pytest.mark.parametrize("path", ["/market-data", "/drop-copy?after=0"])
async def test_streams_need_the_key(exchange: Exchange, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with exchange.socket(path, authorization="Bearer other"):
            pass
    assert refused.value.response.status_code == 403


async def test_a_client_that_does_not_read_stops_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, tape_speed="100000x", feed_ring_ticks="2000", session_pause_s="0") as exchange:
        async with exchange.socket("/market-data") as idle, exchange.socket("/market-data") as busy:
            await frames_until(busy, 30_000)
            assert exec_types(await exchange.order("meanwhile")) == ["NEW"]
            late = await frames_until(idle, 100)
        assert late[0]["type"] == "instruments"


async def test_one_pass_at_max_speed_misses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, tape_speed="max", tape_loops="1", tape_synthetic_rows="20000") as exchange:
        async with exchange.socket("/market-data") as feed:
            frames = await frames_until(feed, 20_000)
            closing = json.loads(await asyncio.wait_for(feed.recv(), DEADLINE_S))
        assert closing["status"]["kind"] == "close"
        assert not [f for f in frames if f["type"] == "gap"]
        ready = await exchange.client.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["session open"])
        assert exec_types(await exchange.order(tif="DAY")) == ["REJECTED"]


# -- webhooks ----------------------------------------------------------------------------------------------------------


async def test_webhooks_carry_the_same_reports_signed(tmp_path: Path) -> None:
    taken: list[tuple[dict[str, str], bytes]] = []
    receiver, stop, port = FastAPI(), asyncio.Event(), free_port()

    @receiver.post("/hooks")
    async def hook(request: Request) -> Response:
        taken.append((dict(request.headers), await request.body()))
        return Response(status_code=204 if len(taken) > 2 else 503)

    serving = asyncio.create_task(serve_http(receiver, "127.0.0.1", port, stop))
    async with running(tmp_path, webhooks="true", webhook_url=f"http://127.0.0.1:{port}/hooks") as exchange:
        told = [r for _ in range(3) for r in (await exchange.order()).json()["reports"]]
        async with asyncio.timeout(DEADLINE_S):
            while {json.loads(b)["exec_id"] for _, b in taken[2:]} < {r["exec_id"] for r in told}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    stop.set()
    await serving
    assert {r["exec_id"]: r for r in told} == {json.loads(b)["exec_id"]: json.loads(b) for _, b in taken[2:]}
    for headers, body in taken:
        stamp = int(headers["webhook-timestamp"])
        assert headers["webhook-signature"] == signature(secret_key(SECRET), headers["webhook-id"], stamp, body)


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_after_sigkill_the_venue_remembers_what_it_answered(tmp_path: Path) -> None:
    async with process(tmp_path) as (exchange, pid):
        gtc = (await exchange.order("k-gtc")).json()["reports"]
        day = (await exchange.order("k-day", tif="DAY")).json()["reports"]
        os.kill(pid, signal.SIGKILL)
    async with process(tmp_path) as (exchange, _):
        found = (await exchange.client.get("/orders/k-gtc")).json()
        assert (found["order"]["order_status"], found["reports"]) == ("NEW", gtc)
        ended = (await exchange.client.get("/orders/k-day")).json()
        assert ended["reports"][:1] == day
        assert (ended["order"]["order_status"], len(ended["reports"])) == ("EXPIRED", 2)
        assert (await exchange.order("k-gtc")).status_code == 409
        async with exchange.socket("/drop-copy?after=1") as copy:
            assert [json.loads(await copy.recv())["n"] for _ in range(2)] == [2, 3]
        later = (await exchange.order()).json()["reports"][0]
        assert later["session"] > gtc[0]["session"]
        assert exec_types(await exchange.client.post("/orders/k-gtc/cancel", json={"cl_ord_id": "k-2"})) == ["CANCELED"]


# -- market data on request --------------------------------------------------------------------------------------------


async def test_the_newest_ticks_and_ticks_again_are_those_of_the_feed(exchange: Exchange) -> None:
    async with exchange.socket("/market-data?after=0") as feed:
        frames = await frames_until(feed, 300)
        ticks = [t for f in frames for t in f.get("ticks", []) if t["s"] == SYMBOL]
        session = ticks[0]["d"]
        asked = {"session": session, "symbol": SYMBOL, "from": 2, "to": len(ticks)}
        again = await exchange.client.get("/market-data/ticks", params=asked)
        assert (again.status_code, again.json()) == (200, {"ticks": ticks[1:], "missing": []})
        newest = (await exchange.client.get(f"/market-data/quotes/{SYMBOL}")).json()
    assert (newest["symbol"], newest["session"], len(newest["ticks"])) == (SYMBOL, session, 2)
    assert {t["k"] for t in newest["ticks"]} == {"T", "Q"}
    assert max(t["q"] for t in newest["ticks"]) >= len(ticks)


async def test_what_cannot_be_asked_of_market_data(exchange: Exchange) -> None:
    missing = await exchange.client.get("/market-data/quotes/NONE")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_symbol")
    fine = {"session": "1", "symbol": "A", "from": "1", "to": "1"}
    for change in (
        {"from": "0"},
        {"from": "2"},
        {"to": "1001"},
        {"to": str(10**30)},
        {"session": "x"},
        {"symbol": None},
    ):
        query = {name: value for name, value in (fine | change).items() if value is not None}
        answer = await exchange.client.get("/market-data/ticks", params=query)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed"), change
    for path in ("/market-data/ticks", f"/market-data/quotes/{SYMBOL}"):
        locked = await exchange.client.get(path, params=fine, headers={"authorization": "Bearer other"})
        assert locked.status_code == 401


async def test_books_come_to_those_who_ask_beside_the_ticks(tmp_path: Path) -> None:
    async with (
        running(tmp_path, depth_flush_ms="10") as exchange,
        exchange.socket("/market-data?after=0&depth=true") as feed,
        exchange.socket("/market-data") as plain,
    ):
        books: list[dict[str, Any]] = []
        ticks = 0
        async with asyncio.timeout(DEADLINE_S):
            while ticks < 100 or sum(book["s"] == SYMBOL for book in books) < 3:
                frame = json.loads(await feed.recv())
                books += frame.get("books", [])
                ticks += len(frame.get("ticks", []))
        assert not [f for f in await frames_until(plain, 50) if f["type"] == "depth"]
    mine = [book for book in books if book["s"] == SYMBOL]
    assert [book["n"] for book in mine] == sorted({book["n"] for book in mine})
    assert {book["s"] for book in books[:SYMBOLS]} == {book["s"] for book in books}, "every symbol at first"
    full = next(book for book in reversed(mine) if book["bids"] and book["asks"])
    assert len(full["bids"]) == len(full["asks"]) == 10


async def test_orders_move_the_book(tmp_path: Path) -> None:
    """On a tape that stands still, in a symbol that it has not quoted yet."""
    async with (
        running(tmp_path, depth_flush_ms="5", tape_speed="0.0001x") as exchange,
        exchange.socket("/market-data?depth=true") as feed,
        asyncio.timeout(DEADLINE_S),
    ):
        first: list[dict[str, Any]] = []
        while not first:
            first = json.loads(await feed.recv()).get("books", [])
        symbol = next(book["s"] for book in first if not book["bids"] and not book["asks"])

        async def bids() -> list[list[int]]:
            while True:
                for book in json.loads(await feed.recv()).get("books", []):
                    if book["s"] == symbol:
                        found: list[list[int]] = book["bids"]
                        return found

        await exchange.order("resting", symbol=symbol, limit_micros=20_000, quantity=77)
        assert await bids() == [[20_000, 77]]
        await exchange.order(symbol=symbol, limit_micros=20_000, quantity=3)
        assert await bids() == [[20_000, 80]]
        await exchange.client.post("/orders/resting/cancel", json={"cl_ord_id": "gone"})
        assert await bids() == [[20_000, 3]]
