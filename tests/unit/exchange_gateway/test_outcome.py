"""Every way a request to the venue can end, and what may be concluded from it."""

from __future__ import annotations

import inspect

import httpx
import pytest

from exchange_gateway.orders.outcome import Answer, Outcome, Reach, decide
from exchange_gateway.orders.venue_http import HttpVenue, reach_of
from infra.contracts import encode
from tests.unit.exchange_gateway.words import venue_report

NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"}
EXCEPTIONS = [c for c in vars(httpx).values() if inspect.isclass(c) and issubclass(c, Exception)]
REPORTS = encode({"reports": [venue_report()]})


def error(code: str) -> bytes:
    return encode({"error": {"code": code, "text": "why"}})


def test_the_table_covers_every_exception_of_httpx() -> None:
    assert {c.__name__ for c in EXCEPTIONS} >= NOT_SENT | {"ReadTimeout", "WriteError", "RemoteProtocolError"}


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
    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(handle)) as client:
        got: Answer = await HttpVenue(client).query("id/with?odd characters")
    assert got.outcome == outcome
