"""Whatever a client sends to the price routes, on a real port and by both ways: a problem with a stable code, never a
fault of ours, and the connection and the api live on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.contracts import Instrument
from price_service.domain.bars import Bar
from price_service.history.routes import PARAMETERS
from tests.flow.served_quotes import WAYS, House, house
from tests.unit.api.doors import token
from tests.unit.price_service.made import SESSION, T0

MILLION_SYMBOLS = ",".join(f"S{n:05d}" for n in range(1_000_000)).encode()
QUICK_ENOUGH_S = 20


@dataclass
class Served:
    house: House
    loop: asyncio.AbstractEventLoop
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def kept_open(self, way: str) -> httpx.Client:
        """One connection for all tests: what one of them does to it, the next ones would see."""
        if way not in self.clients:
            self.clients[way] = self.client(way)
        return self.clients[way]

    def client(self, way: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {token()}"}
        url = f"http://127.0.0.1:{self.house.ports[way]}"
        return httpx.Client(base_url=url, headers=headers, timeout=QUICK_ENOUGH_S, trust_env=False)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """In a thread of its own, so that hypothesis can ask it."""
    ready: Future[Served] = Future()
    ended: list[asyncio.Event] = []

    async def serve() -> None:
        ended.append(asyncio.Event())
        async with house(prices_reads_per_s=1_000_000, prices_reads_burst_max=1_000_000) as at:
            store: Any = at.doors.history._store
            store._instruments["AAPL"] = Instrument("AAPL", "Apple Inc.", 10_000, 1, SESSION)
            store.bars["AAPL"] = {T0 - T0 % 60_000_000_000: Bar("AAPL", T0, 1, 1, 1, 1, 1, 1, 1)}
            ready.set_result(Served(at, asyncio.get_running_loop()))
            await ended[0].wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - the test that waits says it
            if not ready.done():
                ready.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    at = ready.result(30)
    yield at
    for client in at.clients.values():
        client.close()
    at.loop.call_soon_threadsafe(ended[0].set)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, served: Served) -> Iterator[httpx.Client]:
    found = served.kept_open(request.param)
    yield found
    # The same connection, and the api behind it, are as good as before.
    assert found.get("/stockPrices?symbol=AAPL").status_code == 200


def problem(answer: httpx.Response) -> str:
    """The code of a refusal that is fit to be shown to a client."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.request.method == "HEAD":
        assert answer.content == b""
        return ""
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["fix"]
    assert len(answer.content) < 1500
    return str(found["code"])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?symbol=NOPE", "unknown_symbol"),
        ("?symbols=AAPL,NOPE", "unknown_symbol"),
        ("?symbol=", "invalid_symbol"),
        ("?symbol=" + "A" * 10_000, "invalid_symbol"),
        ("?symbol=%00", "invalid_symbol"),
        ("?symbol=AAPL%0d%0aX-Injected:%201", "invalid_symbol"),
        ("?symbol=%FF%FE", "parameter_not_text"),
        ("?symbols=", "symbols_missing"),
        ("?symbols=" + ",".join(["A"] * 501), "too_many_symbols"),
        ("?symbols=" + "A," * 20_000, "too_many_symbols"),
        ("?symbol=AAPL&symbols=SPY", "symbol_or_symbols"),
        ("?symbol=AAPL&symbol=SPY", "repeated_parameter"),
        ("?symbol=AAPL&sumbols=SPY", "unknown_parameter"),
        ("?" + "a&" * 30_000, "unknown_parameter"),
        ("?timerange=1d", "symbol_missing"),
        ("?symbols=AAPL&timerange=1d", "symbol_missing"),
        ("?symbol=NOPE&timerange=1d", "unknown_symbol"),
        ("?symbol=AAPL&timerange=fortnight", "unknown_timerange"),
        ("?symbol=AAPL&timerange=1d&interval=1d", "interval_too_long"),
        ("?symbol=AAPL&from=2023-02-02&to=2023-02-01", "from_after_to"),
        ("?symbol=AAPL&from=2999-01-01", "range_in_future"),
        ("?symbol=AAPL&from=" + "9" * 30_000, "invalid_time"),
        ("?symbol=AAPL&from=2020-01-01&interval=1s", "range_too_long"),
        ("?symbol=AAPL&timerange=1d&from=2024-02-02", "timerange_or_from"),
        ("?symbol=AAPL&timerange=1d&format=exe", "unknown_format"),
        ("?symbol=AAPL&timerange=1d&adjusted=1", "invalid_adjusted"),
        ("?symbol=AAPL&cursor=" + "A" * 60_000, "invalid_cursor"),
        ("?symbol=AAPL&cursor=%00", "invalid_cursor"),
        ("/search", "search_text_missing"),
        ("/search?q=" + "x" * 65, "search_text_too_long"),
        ("/search?q=a&limit=99999999999999999999", "invalid_limit"),
        ("/search?q=a&q=b", "repeated_parameter"),
        ("/stream", "symbols_missing"),
        ("/stream?symbols=NOPE", "unknown_symbol"),
        ("/stream?symbols=" + "A," * 20_000, "too_many_symbols"),
        ("/stream?symbols=AAPL&conflate=maybe", "invalid_field"),
        ("/nothing", "route_not_found"),
    ],
)
def test_what_means_nothing_is_refused_with_a_stable_code(client: httpx.Client, query: str, code: str) -> None:
    assert problem(client.get("/stockPrices" + query)) == code


@pytest.mark.parametrize("id_", ["x", "-1", "1.5", "9" * 200, "٣", "AAPL:1", "1:2:3;DROP", "0x10"])
@pytest.mark.parametrize("conflate", ["true", "false"])
def test_a_stream_is_not_begun_after_an_event_that_never_was(client: httpx.Client, id_: str, conflate: str) -> None:
    target = f"/stockPrices/stream?symbols=AAPL&conflate={conflate}"
    answer = client.get(target, headers=[(b"last-event-id", id_.encode())])
    assert problem(answer) == "last_event_id_invalid"


@pytest.mark.parametrize("header", ["accept", "if-none-match", "x-request-id"])
@pytest.mark.parametrize("value", [b"", b",,,;;;q=", b"\xff\xfe", b"*/*;q=nan", b'"' * 5_000, b"image/png", b"1e999"])
def test_odd_headers_are_taken_or_refused(client: httpx.Client, header: str, value: bytes) -> None:
    for target in ("/stockPrices?symbol=AAPL", "/stockPrices?symbol=AAPL&timerange=1d"):
        answer = client.get(target, headers=[(header.encode(), value)])
        assert answer.status_code in (200, 406), answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(client: httpx.Client, method: str) -> None:
    assert problem(client.request(method, "/stockPrices?symbol=AAPL")) == "method_not_allowed"


def test_a_head_of_nothing_is_refused_without_a_body(client: httpx.Client) -> None:
    for query in ("?symbol=NOPE", "?symbol=AAPL&timerange=x", "/search"):
        assert problem(client.head("/stockPrices" + query)) == ""


def spoken(client: httpx.Client, *parts: bytes) -> bytes:
    """What comes back on a connection of its own until its end, if all of this is sent whatever comes."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), QUICK_ENOUGH_S) as line:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                line.sendall(part)
        heard = b""
        while more := line.recv(65_536):
            heard += more
        return heard


START = f"Authorization: Bearer {token()}\r\nHost: x\r\n".encode()


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([b"GET /stockPrices?symbols=", MILLION_SYMBOLS, b" HTTP/1.1\r\n", START, b"\r\n"], 414, "target_too_long"),
        ([b"GET /stockPrices/stream?symbols=", MILLION_SYMBOLS, b" HTTP/1.1\r\n\r\n"], 414, "target_too_long"),
        ([b"GET /stockPrices?symbols=", b"A," * 35_000, b" HTTP/1.1\r\n", START, b"\r\n"], 414, "target_too_long"),
        ([b"GET / HTTP/1.1\r\nX: ", MILLION_SYMBOLS, b"\r\n\r\n"], 431, "head_too_large"),
        ([b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 500_000, b"\r\n"], 431, "head_too_large"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "bad_request"),
        ([b"GET /stockPrices?symbol=\xff\x00 HTTP/1.1\r\n", START, b"\r\n"], 400, "bad_request"),
        ([b"GET /stockPrices HTTP/9.9\r\n\r\n"], 400, "bad_request"),
    ],
    ids=["a million symbols", "streamed", "70 kB", "a long header", "many headers", "TLS", "binary", "version"],
)
def test_what_is_too_long_to_be_a_request_is_refused_at_a_bounded_cost(
    client: httpx.Client, parts: list[bytes], status: int, code: str
) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head, _, body = spoken(client, *parts).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in head
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == code
    # Server and client are one process here; what was sent is some 7 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 30_000


@pytest.mark.parametrize("apart", [True, False])
def test_nonsense_after_a_request_is_never_taken_for_its_answer(client: httpx.Client, apart: bool) -> None:
    asked = [b"GET /stockPrices?symbol=AAPL HTTP/1.1\r\n" + START + b"\r\n", b"\x16\x03\x01 nonsense\r\n\r\n"]
    heard = spoken(client, *(asked if apart else [b"".join(asked)]))
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]
    assert statuses in ([], [200], [200, 400]), "closed, or answered in order"


WORDS = (*PARAMETERS, "q", "limit", "conflate", "x", "")
STRANGE = st.sampled_from(
    [
        *(
            "AAPL",
            "SPY",
            "NOPE",
            "1d",
            "max",
            "1m",
            "1s",
            "json",
            "parquet",
            "true",
            "2024-01-01",
            "2999-01-01",
            "0",
            "-1",
        ),
        *("9" * 400, "1e400", "NaN", "Infinity", "\0", "null", "' OR 1=1 --", "%", "_", "\\", "../..", "💩", "\ud7ff"),
        *("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.123456789+05:30", "kgA", "A" * 199),
    ]
)
QUERIES = st.lists(st.tuples(st.sampled_from(WORDS), STRANGE | st.text(max_size=30)), max_size=6).map(
    lambda pairs: "&".join(f"{name}={quote(value, errors='replace')}" for name, value in pairs)
)
RAW_QUERIES = st.text("abcdefghijklmnopqrstuvwxyz=&%+;,:0123456789ABCDEF/?", max_size=60)


@given(path=st.sampled_from(["", "/search"]), query=QUERIES | RAW_QUERIES, way=st.sampled_from(WAYS))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_answered_or_refused(served: Served, path: str, query: str, way: str) -> None:
    client = served.kept_open(way)
    answer = client.get(f"/stockPrices{path}?{query}")
    if answer.status_code == 200:
        assert answer.headers["content-type"] != "application/problem+json"
    else:
        problem(answer)


@given(query=QUERIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_ways_refuse_alike(served: Served, query: str) -> None:
    answers = [served.kept_open(way).get(f"/stockPrices?{query}") for way in WAYS]
    assert answers[0].status_code == answers[1].status_code
    if answers[0].status_code >= 400:
        told = [{key: value for key, value in json.loads(a.content).items() if key != "requestId"} for a in answers]
        assert told[0] == told[1]
