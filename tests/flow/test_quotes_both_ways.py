"""Quote reads in the protocol and through the framework, over real sockets: one answer, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from tests.flow.served_quotes import WAYS, House, Reply, house
from tests.unit.api.doors import OTHER_SECRET, token
from tests.unit.price_service.made import RECEIVED_MS, SESSION, quote, trade

TOKEN = token(ttl_s=3600)
BEARER = f"authorization: Bearer {TOKEN}"
TARGET = "/stockPrices?symbol=AAPL"
OWN = "x-request-id"


def asked(target: str = TARGET, *lines: str, method: str = "GET", version: str = "1.1", bearer: str = BEARER) -> bytes:
    head = [f"{method} {target} HTTP/{version}", "host: api.test", bearer, *lines]
    return ("\r\n".join(line for line in head if line) + "\r\n\r\n").encode("latin-1")


PLAIN = asked()
# name → bytes. Those of QUICK are answered before the framework where that is on.
QUICK = {
    "plain": PLAIN,
    "other headers": asked(TARGET, "Accept: */*", "User-Agent: a b (c; d)", "Accept-Encoding: gzip", "X-Empty:"),
    "names in capitals": PLAIN.replace(b"authorization", b"AUTHORIZATION"),
    "scheme in small letters": asked(bearer=f"authorization: bearer {TOKEN}"),
    "kept alive": asked(TARGET, "Connection: keep-alive"),
    "an id": asked(TARGET, "X-Request-Id: mine-1"),
    "an id that cannot be": asked(TARGET, "X-Request-Id: a b"),
    "another version": asked(TARGET, 'If-None-Match: "abc", "def"'),
    "any version": asked(TARGET, "If-None-Match: *"),
    "spaces before a value": asked(TARGET, "X-Request-Id:   mine-2"),
    "back office": asked(bearer=f"authorization: Bearer {token('back_office', None, ttl_s=3600)}"),
}
ORDINARY = {
    "small letters": asked("/stockPrices?symbol=aapl"),
    "spaces after a value": asked(TARGET, "X-Request-Id: mine-3  "),
    "percent-encoded": asked("/stockPrices?symbol=%41APL"),
    "unknown symbol": asked("/stockPrices?symbol=NOPE"),
    "no symbol": asked("/stockPrices?symbol="),
    "no such symbol": asked("/stockPrices?symbol=1'%20OR"),
    "a symbol of 5,000": asked(f"/stockPrices?symbol={'A' * 5_000}"),
    "unknown parameter": asked("/stockPrices?symbol=AAPL&colour=red"),
    "unknown parameter alone": asked("/stockPrices?colour=red"),
    "repeated": asked("/stockPrices?symbol=AAPL&symbol=SPY"),
    "symbol and symbols": asked("/stockPrices?symbol=AAPL&symbols=SPY"),
    "several": asked("/stockPrices?symbols=SPY,AAPL"),
    "all": asked("/stockPrices"),
    "an empty query": asked("/stockPrices?"),
    "one million symbols": asked(f"/stockPrices?symbols={'A,' * 20_000}A"),
    "a history": asked("/stockPrices?symbol=AAPL&timerange=2d"),
    "absolute": asked("http://api.test/stockPrices?symbol=AAPL"),
    "a fragment": asked("/stockPrices?symbol=AAPL#x"),
    "another path": asked("/stockPrices2?symbol=AAPL"),
    "head": asked(method="HEAD"),
    "head of all": asked("/stockPrices", method="HEAD"),
    "put": asked(method="PUT"),
    "options": asked(method="OPTIONS"),
    "no token": asked(bearer=""),
    "another scheme": asked(bearer="authorization: Basic abc"),
    "no such token": asked(bearer="authorization: Bearer abc"),
    "another deployment's": asked(bearer=f"authorization: Bearer {token(secret=OTHER_SECRET)}"),
    "two tokens": asked(TARGET, f"authorization: Bearer {token('back_office', None)}"),
    "letters beyond ASCII": asked(TARGET, "X-Name: \xe9"),
    "large headers": asked(TARGET, f"X-Large: {'x' * 20_000}"),
    "a body": asked(TARGET, "content-length: 4") + b"body",
    "a body that looks like a request": asked(TARGET, f"content-length: {len(PLAIN)}") + PLAIN,
    "a body in chunks": asked(TARGET, "transfer-encoding: chunked") + b"4\r\nbody\r\n0\r\n\r\n",
    "a body that is announced": asked(TARGET, "expect: 100-continue", "content-length: 4") + b"body",
    "an upgrade to nothing": asked(TARGET, "connection: upgrade", "upgrade: h2c"),
}
ENDING = {
    "close": asked(TARGET, "Connection: close"),
    "close and more": asked(TARGET, "Connection: Keep-Alive, close"),
    "1.0": asked(version="1.0"),
    "no request": b"NONSENSE\r\n\r\n",
    "a folded line": PLAIN.replace(b"host: api.test", b"x-long: a\r\n b"),
    "a line without a name": PLAIN.replace(b"host: api.test", b": nameless"),
    "a space before the colon": PLAIN.replace(b"host:", b"host :"),
    "content-length twice": asked(TARGET, "content-length: 1", "content-length: 2") + b"x",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at() -> AsyncIterator[House]:
    async with house() as opened:
        await opened.publish(trade(1, 100_000_000), quote(2), trade(1, 50_000_000, symbol="SPY"))
        yield opened


async def answered(at: House, way: str, raw: bytes, ends: bool = False) -> Reply:
    client = await at.client(way)
    await client.send(raw)
    reply = await client.reply(raw.split(b" ", 1)[0].decode())
    assert not ends or await client.ended()
    await client.close()
    return reply


def alike(reply: Reply) -> Reply:
    """Without what differs from one request to the next."""
    body, own = reply.body, reply.header(OWN) or ""
    if len(own) == 32:
        body = body.replace(own.encode(), b"")
        reply = replace(reply, headers=[(n, "" if n == OWN else v) for n, v in reply.headers])
    return replace(reply, body=body)


@pytest.mark.asyncio(loop_scope="module")
class TestBothWays:
    @pytest.mark.parametrize("name", QUICK)
    async def test_what_is_plain_is_answered_before_the_framework_and_alike(self, at: House, name: str) -> None:
        before = dict(at.reached)
        direct, ordinary = [alike(await answered(at, way, QUICK[name])) for way in WAYS]
        assert direct == ordinary
        assert {way: at.reached[way] - before[way] for way in WAYS} == {"direct": 0, "ordinary": 1}

    @pytest.mark.parametrize("name", ORDINARY)
    async def test_everything_else_goes_the_ordinary_way(self, at: House, name: str) -> None:
        before = at.reached["direct"]
        direct, ordinary = [alike(await answered(at, way, ORDINARY[name])) for way in WAYS]
        assert direct == ordinary
        assert at.reached["direct"] == before + 1
        assert not direct.status.startswith("HTTP/1.1 5")

    @pytest.mark.parametrize("name", ENDING)
    async def test_connections_end_alike(self, at: House, name: str) -> None:
        direct, ordinary = [alike(await answered(at, way, ENDING[name], ends=True)) for way in WAYS]
        assert direct == ordinary


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("way", WAYS)
class TestQuoteReads:
    """What a client may rely on, either way."""

    async def test_a_quote(self, at: House, way: str) -> None:
        reply = await answered(at, way, PLAIN)
        assert reply.status == "HTTP/1.1 200 OK"
        assert reply.header("content-type") == "application/json"
        assert reply.header("cache-control") == "private, no-cache"
        found = read(reply)
        assert (found["price"], found["bid"], found["previousClose"]) == (100, Decimal("99.99"), 99)
        assert (found["stale"], found["age"]) == (False, None)

    async def test_a_version_that_the_client_has_is_not_sent_again(self, at: House, way: str) -> None:
        etag = (await answered(at, way, PLAIN)).header("etag")
        for tags in (f"{etag}", f"W/{etag}", f'"x", {etag}', "*"):
            reply = await answered(at, way, asked(TARGET, f"If-None-Match: {tags}"))
            assert reply.status == "HTTP/1.1 304 Not Modified"
            assert (reply.header("etag"), reply.body) == (etag, b"")
            assert reply.header("content-length") is reply.header("content-type") is None
        assert (await answered(at, way, asked(TARGET, 'If-None-Match: "x"'))).body

    async def test_a_new_tick_makes_a_new_version(self, at: House, way: str) -> None:
        before = await answered(at, way, PLAIN)
        table = at.doors.quotes.table
        newest = next(q for q in range(3, 1_000) if not table.has("AAPL", SESSION, q))
        await at.publish(trade(newest, 101_000_000 + newest))
        after = await answered(at, way, PLAIN)
        assert after.header("etag") != before.header("etag")
        assert read(after)["volume"] == read(before)["volume"] + 100
        # Back where it was, for whoever comes next.
        await at.publish(trade(newest + 1, 100_000_000))

    async def test_head_is_get_without_the_content(self, at: House, way: str) -> None:
        got, head = await answered(at, way, PLAIN), await answered(at, way, asked(method="HEAD"))
        assert alike(replace(got, body=b"")) == alike(head)
        assert int(head.header("content-length") or 0) == len(got.body)

    async def test_the_callers_id_comes_back_and_ours_is_new_each_time(self, at: House, way: str) -> None:
        assert (await answered(at, way, asked(TARGET, "X-Request-Id: mine"))).header(OWN) == "mine"
        ids = {(await answered(at, way, PLAIN)).header(OWN) for _ in range(20)}
        assert len(ids) == 20

    async def test_pipelined_requests_are_answered_in_their_order(self, at: House, way: str) -> None:
        """Quick ones, ordinary ones, refused ones, and one that is only begun."""
        order = ["AAPL", "SPY", "aapl", "SPY", "NOPE", "AAPL", "SPY", "spy", "AAPL"]
        raw = b"".join(asked(f"/stockPrices?symbol={name}", f"X-Request-Id: n{i}") for i, name in enumerate(order))
        for parts in ([raw], [raw[:-9], raw[-9:]], [raw[:300], raw[300:1000], raw[1000:]], [raw[:1], raw[1:]]):
            client = await at.client(way)
            await client.send(*parts)
            replies = [await client.reply() for _ in order]
            await client.close()
            assert [reply.header(OWN) for reply in replies] == [f"n{i}" for i in range(len(order))]
            assert [read(reply).get("symbol") for reply in replies] == [
                None if name == "NOPE" else name.upper() for name in order
            ]

    async def test_a_connection_goes_on_after_each_kind_of_answer(self, at: House, way: str) -> None:
        client = await at.client(way)
        for raw in [PLAIN, *ORDINARY.values(), PLAIN]:
            await client.send(raw)
            await client.reply(raw.split(b" ", 1)[0].decode())
            await client.send(PLAIN)
            assert read(await client.reply())["symbol"] == "AAPL"
        await client.close()

    async def test_a_request_may_come_in_pieces(self, at: House, way: str) -> None:
        client = await at.client(way)
        for size in (1, 7, len(PLAIN) - 1):
            await client.send(PLAIN[:size], PLAIN[size:])
            assert read(await client.reply())["symbol"] == "AAPL"
        await client.close()

    async def test_a_token_is_good_until_it_expires_also_where_it_was_seen_before(self, at: House, way: str) -> None:
        raw = asked(bearer=f"authorization: Bearer {token(ttl_s=30)}")
        assert (await answered(at, way, raw)).status == "HTTP/1.1 200 OK"
        at.clock.advance(30)
        refused = await answered(at, way, raw)
        at.clock.advance(-30)
        assert refused.status == "HTTP/1.1 401 Unauthorized"
        assert json.loads(refused.body)["code"] == "token_expired"

    async def test_it_is_measured_under_its_route(self, at: House, way: str) -> None:
        before = counted("200"), counted("304")
        for _ in range(3):
            await answered(at, way, PLAIN)
        await answered(at, way, asked(TARGET, "If-None-Match: *"))
        assert (counted("200"), counted("304")) == (before[0] + 3, before[1] + 1)


@pytest.mark.parametrize("way", WAYS)
class TestOneHouseEach:
    """What changes the house for whoever comes later."""

    async def test_a_stale_quote_says_so_and_the_venue_is_asked_once_for_a_newer_one(self, way: str) -> None:
        async with house() as at:
            await at.opens()
            await at.publish(trade(1, 100_000_000))
            at.pass_time(30)
            at.venue.ticks["AAPL"] = [trade(2, 101_000_000)]
            found = await gathered(at, way, PLAIN, 20)
            assert at.venue.asked == ["AAPL"]
            assert {(read(reply)["price"], read(reply)["stale"]) for reply in found} == {(101, False)}

    async def test_where_the_venue_knows_nothing_newer_the_quote_is_answered_with_its_age(self, way: str) -> None:
        async with house(prices_fetch_wait_ms=20) as at:
            await at.opens()
            await at.publish(trade(1))
            at.pass_time(30)
            at.venue.ticks["AAPL"] = [trade(1)]
            for seconds, questions in ((0, 1), (1.5, 1), (4, 2)):
                at.clock.advance(seconds)
                found = read(await answered(at, way, PLAIN))
                age = int(at.clock.now_ns() / 1e9 - RECEIVED_MS / 1e3)
                assert (found["stale"], found["age"], len(at.venue.asked)) == (True, age, questions)
            at.venue.is_away = True
            at.clock.advance(5)
            assert read(await answered(at, way, PLAIN))["stale"]
            assert len(at.venue.asked) == 3

    async def test_between_two_questions_a_stale_quote_is_as_ready_as_any_other(self, way: str) -> None:
        async with house() as at:
            await at.opens()
            await at.publish(trade(1))
            at.pass_time(30)
            await answered(at, way, PLAIN)
            before = dict(at.reached)
            assert read(await answered(at, way, PLAIN))["stale"]
            assert at.reached[way] - before[way] == (way == "ordinary")

    async def test_a_symbol_that_nobody_has_listed_is_asked_for_once_and_then_known(self, way: str) -> None:
        async with house() as at:
            await at.opens()
            at.venue.ticks["LATE"] = [trade(1, 7_000_000, symbol="LATE")]
            assert read(await answered(at, way, asked("/stockPrices?symbol=LATE")))["price"] == 7
            refused = [await answered(at, way, asked(f"/stockPrices?symbol={name}")) for name in ("NOPE", "NOPE", "1A")]
            assert [json.loads(reply.body)["code"] for reply in refused] == ["unknown_symbol"] * 2 + ["invalid_symbol"]
            assert at.venue.asked == ["LATE", "NOPE"]

    async def test_several_quotes_are_asked_for_together(self, way: str) -> None:
        async with house() as at:
            await at.opens()
            await at.publish(trade(1, 100_000_000), trade(1, 50_000_000, symbol="SPY"))
            at.pass_time(30)
            at.venue.ticks |= {"AAPL": [trade(2, 101_000_000)], "SPY": [trade(2, 51_000_000, symbol="SPY")]}
            found = read(await answered(at, way, asked("/stockPrices?symbols=SPY,AAPL")))["quotes"]
            assert [quote["price"] for quote in found] == [51, 101]
            at.pass_time(30)
            await answered(at, way, asked("/stockPrices"))
            assert sorted(at.venue.asked) == ["AAPL", "SPY"]

    async def test_who_asks_too_often_is_told_when_to_come_back(self, way: str) -> None:
        async with house(prices_reads_per_s=0.5, prices_reads_burst_max=3) as at:
            await at.publish(trade(1))
            statuses = [(await answered(at, way, raw)).status[9:12] for raw in (PLAIN, ORDINARY["several"], PLAIN)]
            assert statuses == ["200"] * 3
            for raw in (PLAIN, ORDINARY["several"], ORDINARY["unknown symbol"], asked(TARGET, "If-None-Match: *")):
                refused = await answered(at, way, raw)
                assert refused.status == "HTTP/1.1 429 Too Many Requests"
                assert json.loads(refused.body)["code"] == "price_reads_per_second_above_max"
                assert refused.header("retry-after") == "2"
            other = asked(bearer=QUICK["back office"].split(b"\r\n")[2].decode())
            assert (await answered(at, way, other)).status == "HTTP/1.1 200 OK"
            at.clock.advance(2)
            assert [(await answered(at, way, PLAIN)).status[9:12] for _ in range(2)] == ["200", "429"]

    async def test_another_tape_does_not_bring_the_symbols_of_the_last(self, way: str) -> None:
        async with house() as at:
            await at.opens()
            await at.publish(trade(1), trade(1, symbol="SPY"), trade(1, symbol="ONCE"))
            await at.lists("AAPL", session=SESSION + 100)
            await at.opens(SESSION + 100)
            await at.publish(trade(1, session=SESSION + 100), trade(1, symbol="NEW", session=SESSION + 100))
            found = read(await answered(at, way, asked("/stockPrices")))["quotes"]
            assert [quote["symbol"] for quote in found] == ["AAPL", "NEW"]
            assert read(await answered(at, way, asked("/stockPrices?symbol=SPY")))["symbol"] == "SPY"


async def gathered(at: House, way: str, raw: bytes, count: int) -> list[Reply]:
    return list(await asyncio.gather(*(answered(at, way, raw) for _ in range(count))))


def read(reply: Reply) -> dict[str, Any]:
    return dict(json.loads(reply.body, parse_float=Decimal))


def counted(status: str) -> float:
    labels = {"route": "GET /stockPrices", "status": status}
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return sum(s.value for s in samples if s.name.endswith("_count") and s.labels == labels)
