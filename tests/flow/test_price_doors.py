"""Streams of prices as their clients meet them: opened with a ticket, limited, changed, ended, and every tick."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from infra.clock import NS_PER_S
from infra.mailbox_memory import MemoryMailbox
from price_service.store.records import Received
from tests.flow.price_doors import (
    SYMBOLS,
    Served,
    events,
    frozen,
    lines_of,
    served,
    streamed,
    taken,
    token,
    until,
)
from tests.unit.price_service.made import RECEIVED_MS, SESSION, T0, quote, trade


@pytest.fixture
async def house(unused_tcp_port: int) -> AsyncIterator[Served]:
    async with served(unused_tcp_port) as opened:
        yield opened


class TestTickets:
    async def test_a_browser_opens_a_stream_without_a_header(self, house: Served) -> None:
        async with house.client() as page, house.client("") as browser:
            ticket = (await page.post("/streams/tickets")).json()["ticket"]
            async with streamed(browser, symbols="AAPL", ticket=ticket) as found:
                first, second = await taken(found, 2)
            assert (first.event, first.data["symbols"]) == ("stream", ["AAPL"])
            assert second.data["symbol"] == "AAPL"
            again = await browser.get("/stockPrices/stream", params={"symbols": "AAPL", "ticket": ticket})
            assert (again.status_code, again.json()["code"]) == (401, "ticket_invalid")

    async def test_a_stream_ends_with_the_token_that_opened_it_or_bought_its_ticket(self, house: Served) -> None:
        async with house.client(token(ttl_s=2)) as page, house.client("") as browser:
            ticket = (await page.post("/streams/tickets")).json()["ticket"]
            async with (
                streamed(page, symbols="AAPL") as by_token,
                streamed(browser, symbols="AAPL", ticket=ticket) as by_ticket,
                streamed(page, symbols="AAPL", conflate="false") as every,
            ):
                for found in (by_token, by_ticket, every):
                    last = [event async for event in found][-1]
                    assert (last.event, last.data) == ("expired", {"code": "token_expired"})
        await until(lambda: len(house.doors.following.open) == 0)


class TestOpenStreams:
    async def test_too_many_of_one_account_are_refused_and_others_are_not(self, unused_tcp_port: int) -> None:
        async with served(unused_tcp_port, prices_streams_max=2) as house, contextlib.AsyncExitStack() as stack:
            ada = await stack.enter_async_context(house.client())
            bo = await stack.enter_async_context(house.client(token(account=2)))
            for conflate in ("true", "false"):
                await anext(await stack.enter_async_context(streamed(ada, symbols="AAPL", conflate=conflate)))
            for conflate in ("true", "false"):
                refused = await ada.get("/stockPrices/stream", params={"symbols": "AAPL", "conflate": conflate})
                assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
                assert refused.json()["details"] == {"max": 2}
            await anext(await stack.enter_async_context(streamed(bo, symbols="AAPL")))

    async def test_a_stream_is_changed_without_reconnecting_and_ended(self, house: Served) -> None:
        house.publish([trade(1), trade(1, symbol="IBM"), trade(1, symbol="MSFT")])
        await house.stored(3)
        async with house.client() as client, streamed(client, symbols="AAPL") as found:
            stream_id = (await anext(found)).data["id"]
            assert (await anext(found)).data["symbol"] == "AAPL"
            path = f"/stockPrices/streams/{stream_id}"
            answer = await client.patch(path, json={"add": ["ibm", "MSFT"], "remove": ["AAPL"]})
            assert (answer.status_code, answer.json()) == (200, {"id": stream_id, "symbols": ["IBM", "MSFT"]})
            named, *quotes = await taken(found, 3)
            assert (named.event, named.data) == ("stream", {"id": stream_id, "symbols": ["IBM", "MSFT"]})
            assert {event.data["symbol"] for event in quotes} == {"IBM", "MSFT"}
            house.publish([trade(2), trade(2, 101_000_000, symbol="MSFT")])
            changed = await anext(found)
            assert (changed.data["symbol"], changed.data["price"]) == ("MSFT", 101)
            async with house.client(token(account=2)) as other:
                for answer in (await other.patch(path, json={"symbols": ["IBM"]}), await other.delete(path)):
                    assert (answer.status_code, answer.json()["code"]) == (404, "stream_not_found")
            assert (await client.delete(path)).status_code == 204
            assert [event.event async for event in found] == ["closing"]

    async def test_the_other_way_is_changed_and_ended_in_the_same_way(self, unused_tcp_port: int) -> None:
        """Where the connection cannot be taken over."""
        async with (
            served(unused_tcp_port, protocol=None) as house,
            house.client(token(ttl_s=3)) as client,
            streamed(client, symbols="AAPL") as ended,
            streamed(client, symbols="AAPL") as expired,
        ):
            path = f"/stockPrices/streams/{(await anext(ended)).data['id']}"
            assert (await client.patch(path, json={"symbols": ["IBM"]})).status_code == 200
            seen = [(event.event, event.data.get("symbols")) for event in await taken(ended, 3)]
            assert ("stream", ["IBM"]) in seen
            assert (await client.delete(path)).status_code == 204
            assert [event.event async for event in ended][-1] == "closing"
            assert [event.event async for event in expired][-1] == "expired"

    async def test_what_cannot_be_changed_says_why(self, unused_tcp_port: int) -> None:
        async with (
            served(unused_tcp_port, prices_stream_symbols_max=2) as house,
            house.client() as client,
            streamed(client, symbols="AAPL") as found,
        ):
            path = f"/stockPrices/streams/{(await anext(found)).data['id']}"
            for body, status, code in (
                ({"symbols": ["NOPE"]}, 404, "unknown_symbol"),
                ({"add": ["A B"]}, 422, "invalid_symbol"),
                ({"add": ["IBM", "MSFT"]}, 422, "too_many_symbols"),
                ({"symbols": list(SYMBOLS)}, 422, "too_many_symbols"),
                ({"symbols": []}, 422, "stream_of_nothing"),
                ({"remove": ["AAPL"]}, 422, "stream_of_nothing"),
                ({}, 422, "stream_change_invalid"),
                ({"symbols": ["IBM"], "add": ["AAPL"]}, 422, "stream_change_invalid"),
                ({"symbols": "IBM"}, 422, "invalid_field"),
                ({"symbol": ["IBM"]}, 422, "unknown_field"),
                ([], 422, "invalid_field"),
            ):
                answer = await client.patch(path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (status, code), body
            for elsewhere in ("abc", "%00", "x" * 65, "0" * 32):
                answer = await client.patch(f"/stockPrices/streams/{elsewhere}", json={"symbols": ["IBM"]})
                assert answer.status_code in (404, 422), elsewhere

    async def test_a_change_reaches_the_process_that_has_the_stream(self, unused_tcp_port_factory: object) -> None:
        ports = [unused_tcp_port_factory() for _ in range(2)]  # type: ignore[operator]
        mailbox = MemoryMailbox()
        async with (
            served(ports[0], mailbox=mailbox) as near,
            served(ports[1], near.bus, mailbox) as far,
            near.client() as asking,
            far.client() as following,
            streamed(following, symbols="AAPL") as found,
        ):
            stream_id = (await anext(found)).data["id"]
            answer = await asking.patch(f"/stockPrices/streams/{stream_id}", json={"symbols": ["IBM"]})
            assert answer.json() == {"id": stream_id, "symbols": ["IBM"]}
            async with asyncio.timeout(10):
                while (event := await anext(found)).event != "stream":
                    pass
            assert event.data["symbols"] == ["IBM"]
            assert (await asking.delete(f"/stockPrices/streams/{stream_id}")).status_code == 204


class TestEveryTick:
    async def test_every_tick_once_with_an_id_that_says_where_the_client_is(self, house: Served) -> None:
        house.publish([trade(1), quote(1, symbol="IBM")])
        await house.stored(2)
        async with house.client() as client, streamed(client, symbols="AAPL,IBM", conflate="false") as found:
            named = await anext(found)
            assert (named.event, named.id) == ("stream", f"AAPL:{SESSION}:1,IBM:{SESSION}:1")
            house.publish([trade(2, 580_250_000, 5), trade(2, 580_250_000, 5), quote(2, 0, symbol="IBM"), trade(4)])
            house.publish([trade(3), trade(1, session=SESSION + 9)])
            # Symbols are in no order among each other.
            events = sorted(await taken(found, 5), key=lambda event: event.data["symbol"])
        ticks, other = events[:4], events[4]
        assert [(e.event, e.data["sequence"], e.id.split(",")[0]) for e in ticks] == [
            ("tick", 2, f"AAPL:{SESSION}:2"),
            ("tick", 4, f"AAPL:{SESSION}:2"),
            ("tick", 3, f"AAPL:{SESSION}:4"),
            ("tick", 1, f"AAPL:{SESSION + 9}:1"),
        ]
        assert other.id.split(",")[1] == f"IBM:{SESSION}:2"
        assert {k: v for k, v in ticks[0].data.items() if k != "receivedAt"} == {
            "symbol": "AAPL",
            "session": SESSION,
            "sequence": 2,
            "time": "2023-11-14T22:13:20.002000000Z",
            "kind": "trade",
            "price": 580.25,
            "size": 5,
            "conditions": 1,
            "exchange": "Q",
        }
        assert (other.data["bid"], other.data["bidSize"], other.data["ask"]) == (None, None, 100.01)

    async def test_a_client_that_returns_again_and_again_misses_nothing(self, house: Served) -> None:
        """It leaves after every few ticks while they are being sent; what it got is what was sent, each once."""
        count = 2_000
        sending = asyncio.create_task(_send_slowly(house, count))
        await house.stored(1)
        got: list[int] = []
        last_id = f"AAPL:{SESSION}:0"
        async with house.client() as client:
            while len(got) < count:
                async with streamed(client, symbols="AAPL", conflate="false", last_event_id=last_id) as found:
                    for _ in range(min(300, count - len(got)) + 1):
                        event = await anext(found)
                        if event.event == "stream":
                            continue
                        assert event.event == "tick", event
                        got.append(event.data["sequence"])
                        last_id = event.id
        assert got == list(range(1, count + 1))
        await sending

    async def test_a_resume_goes_on_through_the_end_of_a_session(self, house: Served) -> None:
        house.publish([trade(q) for q in range(1, 6)])
        house.publish([trade(q, session=SESSION + 60) for q in range(1, 4)])
        await house.stored(8)
        async with house.client() as client:
            after = f"AAPL:{SESSION}:3"
            async with streamed(client, symbols="AAPL", conflate="false", last_event_id=after) as found:
                ticks = (await taken(found, 6))[1:]
        assert [(e.data["session"], e.data["sequence"]) for e in ticks] == [
            (SESSION, 4),
            (SESSION, 5),
            *((SESSION + 60, q) for q in (1, 2, 3)),
        ]
        assert ticks[-1].id == f"AAPL:{SESSION + 60}:3"

    async def test_what_nobody_has_any_more_is_named(self, unused_tcp_port: int) -> None:
        async with served(unused_tcp_port, prices_replay_ticks_max=4) as house, house.client() as client:
            house.publish([trade(q, at_ns=T0 + q * NS_PER_S) for q in (1, 2, 3, 4, 5, 7, 8)])
            await house.stored(7)
            after = f"AAPL:{SESSION}:1"
            async with streamed(client, symbols="AAPL", conflate="false", last_event_id=after) as found:
                _, reset, *ticks = await taken(found, 5)
                assert (reset.event, reset.data) == (
                    "reset",
                    {"symbol": "AAPL", "session": SESSION, "from": 2, "to": 4},
                )
                assert reset.id == f"AAPL:{SESSION}:4"
                # 6 was never heard of: it may still come, so the id stays before it.
                assert [(e.data["sequence"], e.id) for e in ticks] == [
                    (5, f"AAPL:{SESSION}:5"),
                    (7, f"AAPL:{SESSION}:5"),
                    (8, f"AAPL:{SESSION}:5"),
                ]
                house.publish([trade(6)])
                assert (await anext(found)).id == f"AAPL:{SESSION}:8"

    @pytest.mark.full
    async def test_a_frozen_client_is_told_what_it_lost_and_nothing_is_kept_without_bound(
        self, unused_tcp_port: int
    ) -> None:
        count, step, queue_max = 16_000, 1_000, 1_000
        async with served(unused_tcp_port, prices_every_ticks_max=queue_max) as house, house.client() as quick:
            reader, writer = await frozen(house, "/stockPrices/stream?symbols=AAPL&conflate=false")
            async with streamed(quick, symbols="AAPL", conflate="false") as beside:
                await anext(beside)
                for start in range(1, count, step):
                    house.publish([trade(q) for q in range(start, start + step)])
                    # Others are served meanwhile, each tick once.
                    assert [e.data["sequence"] for e in await taken(beside, step)] == [*range(start, start + step)]
            assert sorted(len(client) for client in house.doors.following.every.fan.clients("AAPL")) == [0, queue_max]
            got, told = list[int](), list[tuple[int, int]]()
            async with contextlib.aclosing(events(lines_of(reader))) as found:
                while not (got and max(got[-1], told[-1][1] if told else 0) == count):
                    event = await anext(found)
                    if event.event == "tick":
                        got.append(event.data["sequence"])
                    elif event.event == "reset":
                        told.append((event.data["from"], event.data["to"]))
            writer.close()
            assert told
            assert sorted([*got, *(q for first, last in told for q in range(first, last + 1))]) == [
                *range(1, count + 1)
            ]

    async def test_what_the_hub_never_saw_comes_from_the_store_else_it_is_named(self, house: Served) -> None:
        house.doors.following.every.ask_after_s = (0.2, 0.4)
        house.publish([trade(1)])
        await house.stored(1)
        async with house.client() as client, streamed(client, symbols="AAPL", conflate="false") as found:
            await anext(found)
            house.publish([trade(5)])
            assert (await anext(found)).id == f"AAPL:{SESSION}:1"
            house.store.ticks.extend(Received(trade(q), RECEIVED_MS) for q in (2, 3))
            filled = await taken(found, 3)
            assert [event.id for event in filled] == [f"AAPL:{SESSION}:{q}" for q in (2, 3, 5)]
            assert (filled[2].event, filled[2].data["from"], filled[2].data["to"]) == ("reset", 4, 4)

    async def test_what_cannot_be_asked(self, house: Served) -> None:
        async with house.client() as client:
            for query, headers, code in (
                ({"symbols": "AAPL", "conflate": "maybe"}, {}, "invalid_field"),
                ({"symbols": ",".join(SYMBOLS * 5)}, {}, None),
                ({"symbols": "AAPL"}, {"last-event-id": "1700000000000"}, "last_event_id_invalid"),
                ({"symbols": "AAPL"}, {"last-event-id": "AAPL:1:x"}, "last_event_id_invalid"),
                ({"symbols": "AAPL"}, {"last-event-id": "AAPL:1:1," * 2}, "last_event_id_invalid"),
                ({"symbols": "AAPL"}, {"last-event-id": "A" * 60_000}, "last_event_id_invalid"),
                ({"symbols": "AAPL"}, {"last-event-id": "AAPL:1:" + "9" * 30}, "last_event_id_invalid"),
            ):
                if code is None:
                    continue
                params = {"conflate": "false", **query}
                answer = await client.get("/stockPrices/stream", params=params, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (422, code), (query, headers)


async def _send_slowly(house: Served, count: int) -> None:
    for q in range(1, count + 1):
        house.publish([trade(q)])
        if q % 20 == 0:
            await asyncio.sleep(0.005)
