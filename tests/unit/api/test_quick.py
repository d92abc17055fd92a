"""Answers between the socket and the parser: what is read of a head, and when a connection is not idle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from prometheus_client import REGISTRY
from uvicorn.server import ServerState

from api.quick import HEAD_BYTES_MAX, Head, QuickAnswers, read_head
from api.wire import WireProtocol, speaking
from infra.clock import Ids, ManualClock
from infra.direct import Prepared
from infra.principal import Principal
from infra.refusal import Refusal

EXPIRES_S = ManualClock().now_ns() // 1_000_000_000 + 10
ANN = Principal("ann", "investor", 1, EXPIRES_S)


def head(*lines: str) -> bytes:
    return (" HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin-1")


class TestHead:
    def test_what_matters_of_it(self) -> None:
        found = read_head(
            head("Host: a", "Authorization: Bearer x.y-z", 'If-None-Match: "a", "b"', "X-Request-Id: r-1", "X-Empty:")
        )
        assert found == Head("Bearer x.y-z", '"a", "b"', b"r-1")
        assert read_head(head("AUTHORIZATION:Bearer x", "Connection: Keep-Alive")) == Head("Bearer x", None, None)
        assert read_head(head("authorization: B", "x-request-id: a b")) == Head("B", None, None)

    @pytest.mark.parametrize(
        "lines",
        [
            ("Host: a",),
            ("authorization: B", "content-length: 0"),
            ("authorization: B", "Transfer-Encoding: chunked"),
            ("authorization: B", "expect: 100-continue"),
            ("authorization: B", "upgrade: websocket"),
            ("authorization: B", "connection: close"),
            ("authorization: B", "connection: keep-alive, x"),
            ("authorization: B", "proxy-connection: close"),
            ("authorization: B", "authorization: C"),
            ("authorization: B", "if-none-match: *", "If-None-Match: *"),
            ("authorization: B", " folded"),
            ("authorization: B", "name : value"),
            ("authorization: B", "value: ends with a space "),
            ("authorization: B", "value: \xe9"),
            ("authorization: B", "value: a\tb"),
            ("authorization: B", "value: a\nb: c"),
            ("authorization: B", ": nameless"),
            ("authorization: B", "no colon"),
            ("authorization: B", f"long: {'x' * HEAD_BYTES_MAX}"),
        ],
    )
    def test_what_is_left_to_the_ordinary_way(self, lines: tuple[str, ...]) -> None:
        assert read_head(head(*lines)) is None

    def test_nor_is_anything_else_than_a_whole_head_of_1_1(self) -> None:
        whole = head("authorization: B")
        others = (whole[:-2], whole + b"x", whole.replace(b"1.1", b"1.0"), whole.replace(b"\r\n", b"\n"), b"")
        assert [read_head(other) for other in others] == [None] * len(others)


class Things:
    """Ready answers about everything but `missing`."""

    route = ("GET", "/quick-things")
    target = b"/quick-things?id="

    def __init__(self) -> None:
        self.given: list[tuple[str, bytes]] = []

    def ready(self, asker: Principal, name: bytes, now_s: float) -> Prepared | None:
        if name == b"missing":
            return None
        self.given.append((asker.subject, name))
        return Prepared(b"<" + name + b">", f'"{name.decode()}"', "no-cache")


class Transport:
    """A client that takes everything, until it is told not to."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.is_reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def take(self) -> bytes:
        taken, self.written = self.written, b""
        return taken


class Wire:
    """One connection of a server whose application answers `slow` when it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.things = Things()
        self.identified = 0
        self.quick = QuickAnswers([self.things], self.identify, self.clock, Ids(self.clock))
        self.answering = asyncio.Event()
        config = uvicorn.Config(
            self.application, http=speaking(self.quick), lifespan="off", log_config=None, interface="asgi3"
        )
        config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.transport = Transport()
        self.protocol = speaking(self.quick)(config=config, server_state=self.state, app_state={})
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    def identify(self, authorization: str | None) -> Principal:
        self.identified += 1
        if authorization != "Bearer ann" or self.clock.now_ns() // 1_000_000_000 >= EXPIRES_S:
            raise Refusal("token_invalid", "No.")
        return ANN

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answering.wait()
        body = b"slow " + scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def asks(self, data: bytes) -> bytes:
        self.protocol.data_received(data)
        return self.transport.take()


def ask(name: str, *lines: str, path: str = "/quick-things?id=", bearer: str = "ann") -> bytes:
    return f"GET {path}{name}".encode() + head(f"authorization: Bearer {bearer}", *lines)


class TestWire:
    async def test_an_answer_on_the_spot(self) -> None:
        wire = Wire()
        for _ in range(3):
            got, _, body = wire.asks(ask("a")).partition(b"\r\n\r\n")
            lines = got.split(b"\r\n")
            assert lines[:-1] == [
                b"HTTP/1.1 200 OK",
                b"date: today",
                b"cache-control: no-cache",
                b'etag: "a"',
                b"content-length: 3",
                b"content-type: application/json",
            ]
            assert body == b"<a>"
        assert wire.things.given == [("ann", b"a")] * 3

    async def test_the_date_is_the_servers(self) -> None:
        wire = Wire()
        assert b"date: today" in wire.asks(ask("a"))
        wire.state.default_headers = [(b"date", b"tomorrow")]
        assert b"date: tomorrow" in wire.asks(ask("a"))

    async def test_ids_are_new_and_of_32_digits(self) -> None:
        wire = Wire()
        answers = []
        for name in "abab":
            wire.state.default_headers = [(b"date", name.encode())]  # a second later
            answers.append(wire.asks(ask(name) * 2))
        ids = [line[14:] for answer in answers for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
        assert len(set(ids)) == len(ids) == 8
        assert {len(one) for one in ids} == {32}
        assert int(ids[0], 16) >> 76 & 0xF == 7

    async def test_a_token_that_ended_is_for_the_ordinary_way_from_that_moment(self) -> None:
        wire = Wire()
        assert wire.asks(ask("a"))
        wire.clock.advance(9.5)
        assert wire.asks(ask("a"))
        assert wire.asks(ask("a"))
        wire.clock.advance(0.5)
        assert wire.asks(ask("a")) == b""
        wire.answering.set()
        await until(lambda: wire.transport.take().endswith(b"slow /quick-things"))

    async def test_who_asks_is_looked_at_again_after_a_moment(self) -> None:
        wire = Wire()
        for _ in range(5):
            wire.asks(ask("a"))
        assert wire.identified == 1
        wire.clock.advance(1.0)
        wire.asks(ask("a"))
        assert wire.identified == 2

    async def test_nothing_is_answered_before_what_was_asked_earlier(self) -> None:
        wire = Wire()
        assert wire.asks(ask("a") + ask("x", path="/slow?")).endswith(b"<a>")
        await asyncio.sleep(0)
        assert wire.asks(ask("b")) == b""
        wire.answering.set()
        got = b""

        def both() -> bool:
            nonlocal got
            got += wire.transport.take()
            return got.endswith(b"slow /quick-things")

        await until(both)
        assert got.index(b"slow /slow") < got.index(b"slow /quick-things")
        assert wire.asks(ask("c")).endswith(b"<c>")

    async def test_a_request_in_pieces_is_the_parsers(self) -> None:
        wire = Wire()
        wire.answering.set()
        whole = ask("a")
        for size in range(1, len(whole)):
            assert wire.asks(whole[:size]) == b""
            wire.protocol.data_received(whole[size:])
            await until(lambda: wire.transport.take().endswith(b"slow /quick-things"))
        assert wire.asks(whole).endswith(b"<a>")

    async def test_a_client_that_takes_nothing_is_not_written_to(self) -> None:
        wire = Wire()
        wire.answering.set()
        wire.protocol.pause_writing()
        assert wire.asks(ask("a") * 5) == b""
        await asyncio.sleep(0)
        assert wire.transport.take() == b""
        assert not wire.transport.is_reading
        wire.protocol.resume_writing()
        await until(lambda: wire.transport.written.count(b"slow /quick-things") == 5)
        assert wire.transport.is_reading
        wire.transport.take()
        assert wire.asks(ask("a")).endswith(b"<a>")

    async def test_a_silent_connection_is_closed_and_a_used_one_is_not(self) -> None:
        wire = Wire()
        protocol = wire.protocol
        assert protocol.timeout_keep_alive_task is None
        wire.asks(ask("a"))
        for _ in range(3):
            wire.asks(ask("a"))
            first = protocol.timeout_keep_alive_task
            protocol.timeout_keep_alive_handler()
            assert not wire.transport.closed
            assert protocol.timeout_keep_alive_task is not first
        protocol.timeout_keep_alive_handler()
        assert wire.transport.closed

    async def test_what_is_kept_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.quick.REQUESTS_KEPT_MAX", 20)
        monkeypatch.setattr("api.quick.HEADS_KEPT_MAX", 10)
        wire = Wire()
        for number in range(100):
            assert wire.asks(ask(str(number)))
            assert wire.asks(ask("a", f"x-other: {number}"))
            assert 0 < len(wire.quick._known) <= 20
            assert 0 < len(wire.quick._heads) <= 10
        before = len(wire.quick._heads)
        for number in range(10):
            wire.asks(ask("a", f"x-request-id: n{number}"))
            wire.asks(ask("a", f'if-none-match: "{number}"'))
        assert len(wire.quick._heads) == before

    async def test_a_slow_answer_is_counted_in_its_own_bucket(self) -> None:
        wire = Wire()
        ready = wire.things.ready

        def slowly(asker: Principal, name: bytes, now_s: float) -> Prepared | None:
            wire.clock.advance(0.003)
            return ready(asker, name, now_s)

        before = buckets()
        wire.asks(ask("q"))
        wire.things.ready = slowly  # type: ignore[method-assign]
        wire.quick._sources[0].ready = slowly
        wire.asks(ask("r"))
        after = buckets()
        assert {le: after[le] - before.get(le, 0) for le in ("0.0005", "0.002", "0.005", "+Inf")} == {
            "0.0005": 1,
            "0.002": 1,
            "0.005": 2,
            "+Inf": 2,
        }

    async def test_without_answers_it_is_the_ordinary_protocol(self) -> None:
        assert WireProtocol.quick is None
        assert speaking(None).quick is None


def buckets() -> dict[str, float]:
    wanted = {"route": "GET /quick-things", "status": "200"}
    return {
        sample.labels["le"]: sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.endswith("seconds_bucket") and wanted.items() <= sample.labels.items()
    }


async def until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - polled: it happens in uvicorn's own task
            await asyncio.sleep(0)
