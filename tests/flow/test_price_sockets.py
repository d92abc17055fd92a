"""Order books, and quotes and books on a WebSocket, as their clients meet them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from tests.flow.price_doors import Served, closed, depth, heard, say, served, streamed, taken, token, until
from tests.unit.price_service.made import SESSION, trade


@pytest.fixture
async def house(unused_tcp_port: int) -> AsyncIterator[Served]:
    async with served(unused_tcp_port) as opened:
        yield opened


class TestBooks:
    async def test_a_book_once_and_as_a_stream(self, house: Served) -> None:
        async with house.client() as client:
            unknown = await client.get("/stockPrices/AAPL/book")
            assert (unknown.status_code, unknown.json()["code"]) == (404, "book_unknown")
            assert (await client.get("/stockPrices/NOPE/book")).json()["code"] == "unknown_symbol"
            assert (await client.get("/stockPrices/A%20B/book")).json()["code"] == "invalid_symbol"
            path = "/stockPrices/aapl/book"
            async with streamed(client, path, headers={"accept": "text/event-stream"}) as found:
                assert (await anext(found)).data["symbols"] == ["AAPL"]
                house.deepen(depth(3, bids=((99_500_000, 20), (99_000_000, 1))), depth(2), depth(1, symbol="IBM"))
                first = await anext(found)
                assert first.data["bids"] == [{"price": 99.5, "size": 20}, {"price": 99.0, "size": 1}]
                assert first.data["asks"] == [{"price": 100.01, "size": 300}]
                assert (first.data["sequence"], first.data["session"]) == (3, SESSION)
                once = await client.get(path)
                assert once.json() == first.data | {"stale": False}
                house.deepen(depth(1, session=SESSION + 1))
                assert (await anext(found)).data["session"] == SESSION + 1
            async with streamed(client, path, stream="true") as found:
                assert [event.data.get("session") for event in await taken(found, 2)] == [None, SESSION + 1]

    async def test_a_silent_book_is_stale_and_there_is_none_after_the_session(self, unused_tcp_port: int) -> None:
        async with served(unused_tcp_port, prices_stale_after_ms=100) as house, house.client() as client:
            house.deepen(depth(1))
            async with streamed(client, "/stockPrices/AAPL/book", stream="true") as found:
                states = [(await anext(found)).data for _ in range(3)][1:]
                assert [book["stale"] for book in states] == [False, True]
                house.close_session()
                assert {(await anext(found)).data[side] == [] for side in ("bids",)} == {True}
            assert (await client.get("/stockPrices/AAPL/book")).json()["code"] == "book_unknown"


class TestSocket:
    async def test_a_snapshot_then_changes_of_quotes_and_books(self, house: Served) -> None:
        house.publish([trade(1), trade(1, symbol="IBM")])
        await house.stored(2)
        async with house.socket() as socket:
            await say(socket, type="subscribe", channel="quotes", symbols=["aapl", "IBM"])
            assert await heard(socket) == {"type": "subscribed", "channel": "quotes", "symbols": ["AAPL", "IBM"]}
            snapshot = await heard(socket)
            assert [quote["symbol"] for quote in snapshot["quotes"]] == ["AAPL", "IBM"]
            await say(socket, type="unsubscribe", channel="quotes", symbols=["IBM"])
            assert (await heard(socket))["symbols"] == ["AAPL"]
            await say(socket, type="subscribe", channel="books", symbols=["MSFT"])
            assert (await heard(socket))["channel"] == "books"
            house.publish([trade(2, symbol="IBM"), trade(2, 123_450_000)])
            changed = await heard(socket)
            assert [(quote["symbol"], quote["price"]) for quote in changed["quotes"]] == [("AAPL", 123.45)]
            house.deepen(depth(1, symbol="MSFT"))
            assert (await heard(socket))["books"][0]["bids"] == [{"price": 99.99, "size": 200}]
            await say(socket, type="unsubscribe", channel="quotes")
            assert await heard(socket) == {"type": "subscribed", "channel": "quotes", "symbols": []}
            await say(socket, type="ping")
            assert await heard(socket) == {"type": "pong"}
        await until(lambda: len(house.doors.following.open) == len(house.doors.streams.followers) == 0)

    async def test_what_cannot_be_is_refused_and_the_connection_stays(self, unused_tcp_port: int) -> None:
        async with served(unused_tcp_port, prices_stream_symbols_max=2) as house, house.socket() as socket:
            for message, code in (
                ("{", "message_invalid"),
                ("[" * 10_000, "message_invalid"),
                (b"\xff", "message_invalid"),
                ('{"type":"fly"}', "message_invalid"),
                ('{"type":"subscribe","channel":"orders","symbols":["AAPL"]}', "message_invalid"),
                ('{"type":"subscribe","channel":"quotes","symbols":["AAPL"],"x":1}', "message_invalid"),
                ('{"type":"subscribe","channel":"quotes","symbols":[]}', "symbols_missing"),
                ('{"type":"subscribe","channel":"quotes","symbols":["NOPE"]}', "unknown_symbol"),
                ('{"type":"subscribe","channel":"quotes","symbols":["A B"]}', "invalid_symbol"),
                ('{"type":"subscribe","channel":"books","symbols":["AAPL","IBM","MSFT"]}', "too_many_symbols"),
            ):
                await socket.send(message)
                error = await heard(socket)
                assert (error["type"], error["code"]) == ("error", code), message
                assert error["fix"]
            await say(socket, type="subscribe", channel="books", symbols=["AAPL", "IBM"])
            assert (await heard(socket))["type"] == "subscribed"
            await say(socket, type="subscribe", channel="quotes", symbols=["MSFT"])
            assert (await heard(socket))["code"] == "too_many_symbols"

    async def test_who_may_not_or_asks_too_much_is_told_why_it_is_closed(self, unused_tcp_port: int) -> None:
        async with served(unused_tcp_port, prices_streams_max=1, prices_socket_messages_max=3) as house:
            for query, bearer, code, close in (
                ("", "", "token_missing", 4401),
                ("?ticket=made-up", "", "ticket_invalid", 4401),
                ("", "nonsense", "token_malformed", 4401),
            ):
                async with house.socket(bearer, query) as socket:
                    assert (await heard(socket))["code"] == code
                    assert await closed(socket) == close
            async with house.socket() as socket:
                async with house.socket() as second:
                    assert (await heard(second))["code"] == "too_many_streams"
                    assert await closed(second) == 4429
                for _ in range(5):
                    await say(socket, type="ping")
                found = [await heard(socket) for _ in range(4)]
                assert [message.get("code", "pong") for message in found] == [*["pong"] * 3, "too_many_messages"]
                for _ in range(40):
                    await say(socket, type="ping")
                assert await closed(socket) == 4429
            async with house.socket() as socket:
                await socket.send(" " * 70_000)
                assert await closed(socket) == 1009

    async def test_the_end_of_the_process_is_the_end_of_the_connection(self, unused_tcp_port: int) -> None:
        async with served(unused_tcp_port) as house, house.socket() as socket, house.socket() as other:
            await say(socket, type="subscribe", channel="books", symbols=["AAPL"])
            assert (await heard(socket))["type"] == "subscribed"
            house.stop.set()
            assert [await closed(each) for each in (socket, other)] == [1012, 1012]

    async def test_it_opens_with_a_ticket_and_ends_with_the_token(
        self, house: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with house.client(token(ttl_s=2)) as page:
            ticket = (await page.post("/streams/tickets")).json()["ticket"]
        async with house.socket("", f"?ticket={ticket}") as socket:
            await say(socket, type="subscribe", channel="quotes", symbols=["AAPL"])
            assert [(await heard(socket))["type"] for _ in range(2)] == ["subscribed", "quotes"]
            last = await heard(socket)
            assert (last["type"], last["code"], await closed(socket)) == ("error", "token_expired", 4401)
        servers = [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")]
        assert any("/ws" in line for line in servers)
        assert all(ticket not in line for line in servers)
