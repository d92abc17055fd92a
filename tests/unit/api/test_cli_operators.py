"""`xgw` for operators: which routes it asks, what it prints, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.unit.api.test_cli import ORDER, Terminal, always

LETTER: dict[str, Any] = {
    "id": "0190",
    "topic": "orders",
    "code": "malformed",
    "text": "x" * 1000,
    "orderId": None,
    "parkedAt": "2023-11-14T22:13:20Z",
    "replays": 0,
    "state": "parked",
}
SHOWN = {"text": "{}", "base64": None, "bytes": 2, "cut": False}
BINARY = {"text": None, "base64": "/wA=", "bytes": 70000, "cut": True}
SWITCH = {"scope": "global", "mode": "cancel_only", "reason": "drill", "by": "operator-1", "at": None}


@pytest.fixture
def xgw(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def asked(xgw: Terminal) -> tuple[str, str, Any]:
    request = xgw.requests[-1]
    return request.method, request.url.path, json.loads(request.content) if request.content else None


def replayed(*outcomes: str, more: bool = False) -> str:
    results = [{"id": str(i), "outcome": outcome, "state": None} for i, outcome in enumerate(outcomes)]
    return json.dumps({"results": results, "more": more})


def test_dead_letters_are_listed_with_filters_and_the_way_on(xgw: Terminal) -> None:
    page = json.dumps({"letters": [LETTER], "next": "0190"})
    argv = ["dlq", "ls", "--topic", "orders", "--code", "malformed", "--state", "parked", "--order", "7"]
    code, out, err = xgw(*argv, "--limit", "5", "--cursor", "01", answer=always(200, page))
    assert (code, out.count("0190"), "x" * 80 in out, "x" * 81 in out) == (0, 1, True, False)
    assert "--cursor 0190" in err
    assert dict(xgw.requests[0].url.params) == {
        "topic": "orders",
        "code": "malformed",
        "state": "parked",
        "orderId": "7",
        "limit": "5",
        "cursor": "01",
    }


@pytest.mark.parametrize("argv", [["--json", "dlq", "ls"], ["dlq", "--json", "ls"], ["dlq", "ls", "--json"]])
def test_json_may_be_said_anywhere(xgw: Terminal, argv: list[str]) -> None:
    page = {"letters": [LETTER], "next": "0190"}
    code, out, err = xgw(*argv, answer=always(200, json.dumps(page)))
    assert (code, json.loads(out), err) == (0, page, "")


def test_a_dead_letter_is_shown_readably(xgw: Terminal) -> None:
    letter = LETTER | {"key": None, "value": BINARY, "headers": [{"name": "event-id", **SHOWN}]}
    code, out, _ = xgw("dlq", "show", "0190", answer=always(200, json.dumps(letter)))
    assert (code, asked(xgw)) == (0, ("GET", "/ops/dlq/0190", None))
    assert "base64 /wA= … (70000 bytes)" in out
    assert '{"event-id":"{}"}' in out
    assert json.loads(xgw("dlq", "show", "0190", "--json", answer=always(200, json.dumps(letter)))[1]) == letter


def test_replays_name_letters_or_a_cause(xgw: Terminal) -> None:
    code, out, _ = xgw("dlq", "replay", "a", "b", "--reason", "mended", answer=always(200, replayed("replayed")))
    assert (code, "replayed" in out) == (0, True)
    body = {"ids": ["a", "b"], "ratePerS": 100, "reason": "mended"}
    assert asked(xgw) == ("POST", "/ops/dlq/replays", body)
    argv = ["dlq", "replay", "--topic", "orders", "--code", "malformed", "--rate", "5", "--reason", "mended"]
    code, _, err = xgw(*argv, answer=always(200, replayed("not_parked", more=True)))
    assert (code, "still parked" in err) == (0, True)
    assert asked(xgw)[2] == {"topic": "orders", "code": "malformed", "ratePerS": 5, "reason": "mended"}


@pytest.mark.parametrize("outcome", ["unconfirmed", "not_tried", "not_found"])
def test_a_replay_that_did_not_send_all_ends_with_1(xgw: Terminal, outcome: str) -> None:
    answer = always(200, replayed("replayed", outcome))
    assert xgw("dlq", "replay", "a", "--reason", "r", answer=answer)[0] == 1


def test_a_discard_and_its_return_have_reasons(xgw: Terminal) -> None:
    for word in ("discard", "restore"):
        assert xgw("dlq", word, "0190", "--reason", "by hand", answer=always(200, json.dumps(LETTER)))[0] == 0
        assert asked(xgw) == ("POST", f"/ops/dlq/0190/{word}", {"reason": "by hand"})


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["global"], "/ops/switches/global"),
        (["symbol", "brk.b"], "/ops/switches/symbol:BRK.B"),
        (["account", "7"], "/ops/switches/account:7"),
    ],
)
def test_switches_are_set(xgw: Terminal, words: list[str], path: str) -> None:
    argv = ["kill", *words, "--mode", "cancel_only", "--reason", "drill"]
    assert xgw(*argv, answer=always(200, json.dumps(SWITCH)))[0] == 0
    assert asked(xgw) == ("PUT", path, {"mode": "cancel_only", "reason": "drill"})


def test_switches_and_breaks_are_listed(xgw: Terminal) -> None:
    code, out, _ = xgw("kill", "ls", answer=always(200, json.dumps({"switches": [SWITCH]})))
    assert (code, "operator-1" in out, asked(xgw)) == (0, True, ("GET", "/ops/switches", None))
    found = {"breaks": [{"kind": "cash", "subject": "7", "ours": {"micros": 1}}], "next": "2"}
    code, out, err = xgw("breaks", "ls", "--cursor", "1", answer=always(200, json.dumps(found)))
    assert (code, '{"micros":1}' in out, "--cursor 2" in err) == (0, True, True)
    assert xgw.requests[-1].url.params["cursor"] == "1"


def test_a_rebuild_that_finds_a_difference_ends_with_1(xgw: Terminal) -> None:
    same = json.dumps({"orders": 3, "differences": []})
    assert xgw("orders", "rebuild", "--check", answer=always(200, same))[0] == 0
    assert xgw.requests[-1].url.query == b"check=true"
    difference = {"orderId": "0190", "field": "status", "stored": "PLACED", "rebuilt": "FILLED"}
    answer = always(200, json.dumps({"orders": 3, "differences": [difference]}))
    code, out, _ = xgw("orders", "rebuild", "--check", answer=answer)
    assert (code, "FILLED" in out) == (1, True)
    assert xgw("orders", "rebuild", "--check", "--json", answer=answer)[0] == 1


def test_an_order_is_replaced_in_what_is_named(xgw: Terminal) -> None:
    assert xgw("replace", "0190", "--limit", "580.10", answer=always(202, json.dumps(ORDER)))[0] == 0
    assert asked(xgw) == ("PATCH", "/orders/0190", {"amount": "580.10"})
    xgw("replace", "0190", "--quantity", "5", "--limit", "1", answer=always(202, json.dumps(ORDER)))
    assert asked(xgw)[2] == {"quantity": 5, "amount": "1"}


@pytest.mark.parametrize(
    "argv",
    [
        ["dlq", "discard", "0190"],
        ["dlq", "replay", "0190"],
        ["kill", "global", "--mode", "cancel_only"],
        ["kill", "global", "--mode", "off", "--reason", "r"],
        ["kill", "account", "mine", "--mode", "normal", "--reason", "r"],
        ["orders", "rebuild"],
        ["replace", "0190"],
        ["replace", "0190", "--limit", "cheap"],
    ],
)
def test_a_wrong_command_asks_nobody(xgw: Terminal, argv: list[str]) -> None:
    code, _, err = xgw(*argv, answer=always(500, ""))
    assert (code, xgw.requests) == (2, [])
    assert err


def test_a_long_replay_is_waited_for(xgw: Terminal) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.extensions["timeout"]["read"] > 30
        return httpx.Response(200, text=replayed("replayed"))

    assert xgw("dlq", "replay", "a", "--reason", "r", answer=answer)[0] == 0
