"""`xgw` says what the api says, and its exit code can be scripted against."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import httpx
import pytest

from api.cli import commands, show
from api.cli.client_http import Api, Event, events

Answer = Callable[[httpx.Request], httpx.Response]
ORDER = {"id": "0190", "symbol": "AAPL", "orderType": "buy", "status": "PENDING", "amount": 580.25, "pending": None}
QUOTE = '{"symbol":"AAPL","price":580.10,"stale":false}'


class Terminal:
    """Runs `xgw` against an api that answers as told."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.requests: list[httpx.Request] = []

    def __call__(self, *argv: str, answer: Answer, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
        def handler(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return answer(request)

        def connect(url: str, token: str) -> Api:
            return Api(url, token, httpx.MockTransport(handler))

        code = commands.run(argv, environ or {}, connect)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def xgw(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def always(status: int, text: str) -> Answer:
    return lambda _: httpx.Response(status, text=text)


def test_buy_sends_the_owners_words_and_the_price_as_typed(xgw: Terminal) -> None:
    code, out, _ = xgw("--json", "buy", "aapl", "10", "--limit", "580.10", answer=always(201, json.dumps(ORDER)))
    request = xgw.requests[0]
    assert (code, json.loads(out)["id"]) == (0, "0190")
    assert json.loads(request.content) == {
        "orderType": "buy",
        "type": "LIMIT",
        "symbol": "AAPL",
        "quantity": 10,
        "timeInForce": "DAY",
        "amount": "580.10",
    }
    assert len(request.headers["idempotency-key"]) == 32


def test_sell_without_a_limit_is_a_market_order(xgw: Terminal) -> None:
    code, out, _ = xgw("sell", "AAPL", "1", "--tif", "ioc", "--key", "mine", answer=always(201, json.dumps(ORDER)))
    body = json.loads(xgw.requests[0].content)
    assert (code, body["type"], body["timeInForce"], "amount" in body) == (0, "MARKET", "IOC", False)
    assert xgw.requests[0].headers["idempotency-key"] == "mine"
    assert "PENDING" in out


def test_address_and_token_come_from_options_or_the_environment(xgw: Terminal) -> None:
    environ = {"XGW_API_URL": "http://one.test", "XGW_TOKEN": "first"}
    xgw("orders", answer=always(200, "[]"), environ=environ)
    xgw("--url", "http://two.test", "--token", "second", "orders", answer=always(200, "[]"), environ=environ)
    seen = [(request.url.host, request.headers["authorization"]) for request in xgw.requests]
    assert seen == [("one.test", "Bearer first"), ("two.test", "Bearer second")]


@pytest.mark.parametrize("wrapped", ["[%s]", '{"orders":[%s],"next":null}'])
def test_orders_are_a_table(xgw: Terminal, wrapped: str) -> None:
    code, out, _ = xgw("orders", "--symbol", "AAPL", answer=always(200, wrapped % json.dumps(ORDER)))
    assert code == 0
    assert "0190" in out
    assert "580.25" in out
    assert xgw.requests[0].url.query == b"symbol=AAPL"


def test_quotes_keep_their_digits(xgw: Terminal) -> None:
    code, out, _ = xgw("quote", "AAPL", "MSFT", answer=always(200, QUOTE))
    assert (code, out.count("580.10"), len(xgw.requests)) == (0, 2, 2)
    assert '"price":580.10' in xgw("--json", "quote", "AAPL", answer=always(200, QUOTE))[1]


def test_order_and_cancel_use_the_orders_path(xgw: Terminal) -> None:
    assert xgw("order", "0190", answer=always(200, json.dumps(ORDER)))[0] == 0
    assert xgw("cancel", "0190", answer=always(202, json.dumps(ORDER)))[0] == 0
    assert [(r.method, r.url.path) for r in xgw.requests] == [("GET", "/orders/0190"), ("DELETE", "/orders/0190")]


def test_watch_prints_each_change_until_the_end(xgw: Terminal) -> None:
    text = f"retry: 1000\n\nid: 1\ndata: {QUOTE}\n\n: ping\n\ndata: [{QUOTE},{QUOTE}]\n\nevent: closing\ndata: {{}}\n\n"
    code, out, _ = xgw("--json", "watch", "aapl", "msft", answer=always(200, text))
    assert (code, out.count('"price":580.10')) == (0, 3)
    assert xgw.requests[0].url.params["symbols"] == "AAPL,MSFT"
    code, out, _ = xgw("watch", "AAPL", "--events-max", "1", answer=always(200, text))
    assert (code, out.count("580.10")) == (0, 1)


def test_a_refusal_is_a_sentence_and_a_code(xgw: Terminal) -> None:
    problem = {"code": "amount_off_tick", "detail": "The amount is off the tick.", "fix": "Send 580.10.", "status": 422}
    for argv in (["buy", "AAPL", "1", "--limit", "580.105"], ["watch", "AAPL"]):
        code, out, err = xgw(*argv, answer=always(422, json.dumps(problem)))
        assert (code, out, err) == (1, "", "The amount is off the tick. Send 580.10. [amount_off_tick]\n")


def test_something_that_is_not_the_api_is_reported_as_such(xgw: Terminal) -> None:
    assert xgw("orders", answer=always(502, "<html>"))[::2] == (1, "The api answered 502. [http_502]\n")
    code, _, err = xgw("orders", answer=always(200, "<html>"))
    assert (code, "unreadable" in err) == (2, True)


def test_nobody_answers(xgw: Terminal) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    code, _, err = xgw("orders", answer=refuse)
    assert code == 2
    assert err.startswith("Nobody answers at http://127.0.0.1:8000")
    assert "may be stored" not in xgw("buy", "AAPL", "1", answer=refuse)[2]


def test_a_cut_answer_leaves_a_doubt(xgw: Terminal) -> None:
    def cut(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    code, _, err = xgw("buy", "AAPL", "1", answer=cut)
    assert code == 2
    assert f"--key {xgw.requests[0].headers['idempotency-key']} is safe" in err


@pytest.mark.parametrize(
    "argv", [["buy", "AAPL"], ["buy", "AAPL", "ten"], ["buy", "AAPL", "1", "--limit", "cheap"], ["nothing"], ["--what"]]
)
def test_a_wrong_command_asks_nobody(xgw: Terminal, argv: list[str]) -> None:
    code, _, err = xgw(*argv, answer=always(500, ""))
    assert (code, xgw.requests) == (2, [])
    assert err


def test_help_is_not_an_error(xgw: Terminal) -> None:
    code, out, _ = xgw("--help", answer=always(500, ""))
    assert code == 0
    assert "watch" in out


def test_the_lines_of_a_stream_become_events() -> None:
    lines = iter(
        ["retry: 1", "", ": ping", "", "id: 7", "event: reset", "data: [1,", "data: 2]", "", "data:3", "", "data: 4"]
    )
    assert list(events(lines)) == [Event("reset", "7", [1, 2]), Event("message", "7", 3)]


def test_cells_show_values_not_markup() -> None:
    assert [show.cell(value) for value in (None, True, Decimal("1.10"), {"a": Decimal("1.10")}, "[red]")] == [
        "-",
        "yes",
        "1.10",
        '{"a":1.10}',
        r"\[red]",
    ]
