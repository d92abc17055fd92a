"""Every way a request to the venue can end, and what may be concluded from it."""

from __future__ import annotations

import inspect

import httpx
import pytest

from exchange_gateway.orders.outcome import Answer, Outcome, Reach, decide, decide_batch, retry_after
from exchange_gateway.orders.venue_http import HttpVenue, reach_of
from exchange_gateway.orders.wire import NewOrder
from infra.clock import ManualClock
from infra.contracts import encode
from tests.unit.exchange_gateway.words import venue_report

NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"}
MAYBE_SENT = {
    *("HTTPError", "RequestError", "TransportError", "TimeoutException", "NetworkError", "ProtocolError"),
    *("ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "CloseError", "ProxyError"),
    *("LocalProtocolError", "RemoteProtocolError", "DecodingError", "TooManyRedirects", "HTTPStatusError"),
    *("CookieConflict", "StreamError", "StreamConsumed", "StreamClosed", "ResponseNotRead", "RequestNotRead"),
}
EXCEPTIONS = [c for c in vars(httpx).values() if inspect.isclass(c) and issubclass(c, Exception)]
REPORTS = encode({"reports": [venue_report()]})


def error(code: str) -> bytes:
    return encode({"error": {"code": code, "text": "why"}})


def test_the_table_covers_every_exception_of_httpx() -> None:
    assert {c.__name__ for c in EXCEPTIONS} == NOT_SENT | MAYBE_SENT, "a new one must be thought about first"


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda c: c.__name__)
def test_only_what_never_left_counts_as_not_sent(kind: type[Exception]) -> None:
    raised = kind.__new__(kind)
    expected = Reach.NOT_SENT if kind.__name__ in NOT_SENT else Reach.MAYBE_SENT
    assert reach_of(raised) is expected
    assert decide(reach_of(raised)).outcome == ("not_sent" if expected is Reach.NOT_SENT else "unknown")


@pytest.mark.parametrize("raised", [OSError(), TimeoutError(), RuntimeError("handler is closed"), ValueError()])
def test_what_is_not_known_to_be_harmless_may_have_been_sent(raised: Exception) -> None:
    assert reach_of(raised) is Reach.MAYBE_SENT


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, REPORTS, "accepted"),
        (201, REPORTS, "accepted"),
        (200, REPORTS[:-3], "unknown"),  # truncated
        (200, b"", "unknown"),
        (200, b"<html>ok</html>", "unknown"),
        (200, b"\xff\xfe", "unknown"),
        (200, b'{"reports":[]}', "unknown"),
        (200, b'{"reports":[{"exec_id":1}]}', "unknown"),
        (200, error("malformed"), "unknown"),
        (204, b"", "unknown"),
        (301, b"", "unknown"),
        (304, b"", "unknown"),
        (400, error("malformed"), "refused"),
        (400, error("something_new"), "unknown"),
        (400, b"Bad Request", "unknown"),
        (401, error("unauthorized"), "not_sent"),
        (401, b"", "not_sent"),
        (403, b"", "not_sent"),
        (404, error("unknown_order"), "not_found"),
        (404, b'{"detail":"Not Found"}', "unknown"),  # not the venue's word: a wrong path proves nothing
        (405, b"", "unknown"),
        (408, b"", "unknown"),
        (409, error("duplicate_cl_ord_id"), "duplicate"),
        (409, error("other"), "unknown"),
        (409, b"", "unknown"),
        (413, error("too_large"), "refused"),
        (413, b"", "unknown"),
        (422, error("malformed"), "unknown"),
        (429, b"slow down", "not_sent"),
        (500, error("malformed"), "unknown"),
        (502, b"", "unknown"),
        (503, b"", "unknown"),
        (503, error("unavailable"), "not_sent"),
        (503, error("other"), "unknown"),
        (504, b"", "unknown"),
        (599, REPORTS, "unknown"),
    ],
)
def test_status_and_body(status: int, body: bytes, outcome: Outcome) -> None:
    answer = decide(Reach.ANSWERED, status, body)
    assert answer.outcome == outcome
    assert (answer.reason is None) == (outcome == "accepted")
    assert bool(answer.reports) == (outcome == "accepted")


def test_a_rejected_order_is_an_answer_not_an_error() -> None:
    body = encode({"reports": [venue_report(exec_type="REJECTED", order_status="REJECTED")]})
    answer = decide(Reach.ANSWERED, 200, body)
    assert answer.outcome == "accepted"
    assert answer.reports[0].exec_type == "REJECTED"


# -- batches -----------------------------------------------------------------------------------------------------------


def results(*each: bytes) -> bytes:
    return b'{"results":[' + b",".join(each) + b"]}"


TAKEN = b'{"status":200,' + REPORTS[1:]
USED = encode({"status": 409, "error": {"code": "duplicate_cl_ord_id", "text": ""}})
BROKEN = encode({"status": 400, "error": {"code": "malformed", "text": ""}})


@pytest.mark.parametrize(
    ("status", "body", "outcomes"),
    [
        (200, results(TAKEN, USED), ["accepted", "duplicate"]),
        (200, results(BROKEN, TAKEN), ["refused", "accepted"]),
        (200, results(TAKEN, b'{"status":500}'), ["accepted", "unknown"]),
        (200, results(TAKEN, b'{"status":"ok"}'), ["accepted", "unknown"]),
        (200, results(TAKEN, b"null"), ["accepted", "unknown"]),
        (200, results(TAKEN, b'{"status":200,"reports":[]}'), ["accepted", "unknown"]),
        (200, results(TAKEN), ["unknown", "unknown"]),
        (200, results(TAKEN, TAKEN, TAKEN), ["unknown", "unknown"]),
        (200, results(TAKEN, TAKEN)[:-2], ["unknown", "unknown"]),
        (200, b"", ["unknown", "unknown"]),
        (200, REPORTS, ["unknown", "unknown"]),
        (200, b'{"results":{}}', ["unknown", "unknown"]),
        (404, error("unknown_order"), ["unknown", "unknown"]),
        (409, error("duplicate_cl_ord_id"), ["unknown", "unknown"]),
        (500, b"", ["unknown", "unknown"]),
        (429, b"", ["not_sent", "not_sent"]),
        (503, error("unavailable"), ["not_sent", "not_sent"]),
        (413, error("too_large"), None),
        (400, error("malformed"), None),
    ],
)
def test_a_batch_is_decided_order_by_order(status: int, body: bytes, outcomes: list[str] | None) -> None:
    answers = decide_batch(2, status, body)
    assert (None if answers is None else [answer.outcome for answer in answers]) == outcomes


# -- Retry-After -------------------------------------------------------------------------------------------------------

NOW_S = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 3 ", 3.0),
        ("Sun, 06 Nov 1994 08:49:40 GMT", 3.0),
        ("Sunday, 06-Nov-94 08:49:40 GMT", 3.0),
        ("Sun Nov  6 08:49:40 1994", 3.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("9" * 40, None),
        ("٣", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW_S) == seconds


@pytest.mark.parametrize(
    ("status", "body", "seconds"),
    [(429, b"", 7.0), (503, error("unavailable"), 7.0), (503, b"<html>", 7.0), (200, REPORTS, None)],
)
def test_only_an_answer_that_sends_us_away_carries_the_pause(status: int, body: bytes, seconds: float | None) -> None:
    assert decide(Reach.ANSWERED, status, body, retry_after_s=7.0).retry_after_s == seconds


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (decide(Reach.NOT_SENT), False),
        (decide(Reach.MAYBE_SENT), False),
        (decide(Reach.ANSWERED, 401), False),
        (decide(Reach.ANSWERED, 503, error("unavailable")), False),
        (decide(Reach.ANSWERED, 500), True),
        (decide(Reach.ANSWERED, 200, b"{"), True),
        (decide(Reach.ANSWERED, 200, REPORTS), True),
    ],
)
def test_which_answers_show_that_the_venue_is_there(answer: Answer, heard: bool) -> None:
    assert answer.heard is heard


# -- the adapter -------------------------------------------------------------------------------------------------------


def venue(answer: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> HttpVenue:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return HttpVenue(httpx.MockTransport(handle), "http://venue:8100", "key", ManualClock())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.Response(200, content=REPORTS), "accepted"),
        (httpx.Response(502, content=b"<html>"), "unknown"),
        (httpx.ConnectError("refused"), "not_sent"),
        (httpx.ReadTimeout("slow"), "unknown"),
        (RuntimeError("the handler is closed"), "unknown"),
    ],
)
async def test_the_adapter_never_raises(answer: httpx.Response | Exception, outcome: Outcome) -> None:
    assert (await venue(answer).query("id/with?odd characters")).outcome == outcome
    batch = await venue(answer).submit_batch([ORDER, ORDER])
    assert {each.outcome for each in batch} == {"not_sent" if outcome == "not_sent" else "unknown"}


ORDER = NewOrder(cl_ord_id="1", symbol="AAPL", side="BUY", ord_type="LIMIT", tif="DAY", quantity=1, limit_micros=10_000)


async def test_a_request_carries_what_http_demands() -> None:
    seen: list[httpx.Request] = []
    await venue(httpx.Response(200, content=REPORTS), seen).submit(ORDER)
    [request] = seen
    assert (request.method, str(request.url)) == ("POST", "http://venue:8100/orders")
    assert request.content == encode(ORDER)
    wanted = {"host": "venue:8100", "authorization": "Bearer key", "content-length": str(len(encode(ORDER)))}
    assert dict(request.headers).items() >= wanted.items()
    assert set(request.extensions["timeout"].values()) == {2.0}


async def test_the_pause_that_the_venue_asks_for_is_carried() -> None:
    answer = await venue(httpx.Response(429, headers={"retry-after": "5"})).submit(ORDER)
    assert (answer.outcome, answer.retry_after_s) == ("not_sent", 5.0)


async def test_a_batch_that_is_refused_as_such_goes_order_by_order() -> None:
    seen: list[httpx.Request] = []
    answers = await venue(httpx.Response(413, content=error("too_large")), seen).submit_batch([ORDER, ORDER])
    assert [request.url.path for request in seen] == ["/orders/batch", "/orders", "/orders"]
    assert [answer.outcome for answer in answers] == ["refused", "refused"]
