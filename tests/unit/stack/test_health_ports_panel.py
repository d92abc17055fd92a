"""Waiting for health, taken ports, and what is printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from infra.stack import health, panel, ports, processes
from infra.stack.layout import Layout
from infra.stack.settings import load_stack

SETTINGS = load_stack({})
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3C48 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4711 1 0000000000000000
   1: 0100007F:3C48 0100007F:C350 01 00000000:00000000 00:00000000 00000000   101        0 4712 1 0000000000000000
   2: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000
"""


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def _wait(asked: dict[str, health.Trouble], time: Time, hopeless: dict[str, str] | None = None) -> dict[str, str]:
    known = hopeless or {}
    return health.wait_healthy(asked, 5.0, known.get, time.clock, time.pause)


def test_waiting_ends_when_all_are_healthy_and_asks_a_healthy_one_no_more() -> None:
    time, asked = Time(), {"a": 0, "b": 0}

    def ask(name: str, healthy_at: int) -> str | None:
        asked[name] += 1
        return None if asked[name] >= healthy_at else "not yet"

    assert _wait({"a": lambda: ask("a", 1), "b": lambda: ask("b", 4)}, time) == {}
    assert asked == {"a": 1, "b": 4}


def test_waiting_ends_at_the_deadline_with_what_was_last_said() -> None:
    time = Time()
    assert _wait({"a": lambda: "down", "b": lambda: None}, time) == {"a": "down"}
    assert 5.0 <= time.now < 5.2


def test_waiting_for_a_process_that_gave_up_ends_at_once() -> None:
    time = Time()
    assert _wait({"a": lambda: "down"}, time, {"a": "it ends again and again"}) == {"a": "it ends again and again"}
    assert time.now == 0.0


def test_only_the_listening_socket_of_the_port_is_the_holder() -> None:
    assert ports.listening_inodes([TCP], 15432) == {"4711"}
    assert ports.listening_inodes([TCP, ""], 9999) == set()


def test_the_holder_is_found_through_its_open_files(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TCP)
    (tmp_path / "77/fd").mkdir(parents=True)
    (tmp_path / "77/fd/3").symlink_to("socket:[4711]")
    (tmp_path / "77/cmdline").write_bytes(b"postgres\0-D\0/other\0")
    assert ports.holder(15432, tmp_path) == (77, "postgres -D /other")
    assert ports.holder(8000, tmp_path) is None


def test_a_taken_port_is_told_with_its_setting_and_its_holder() -> None:
    message = ports.taken_message(15432, "XGW_POSTGRES_PORT", "postgres", (77, "postgres -D /other"))
    assert "port 15432" in message
    assert "XGW_POSTGRES_PORT=16432 make up" in message
    assert "process 77 (postgres -D /other)" in message
    assert "another process" in ports.taken_message(65000, "XGW_API_PORT", "api", None)


def test_status_lists_every_process_running_or_not() -> None:
    states = {"api": {"pid": 12, "statename": "RUNNING"}, "redis": {"pid": 0, "statename": "BACKOFF"}}
    table = panel.rows(processes.listed(SETTINGS), states)
    listed = {row["name"]: row for row in json.loads(panel.status_json(table))}
    assert listed["api"] == {"name": "api", "pid": 12, "state": "RUNNING", "ports": [8000]}
    assert listed["redis"] == {"name": "redis", "pid": None, "state": "BACKOFF", "ports": [16379]}
    assert listed["kafka"] == {"name": "kafka", "pid": None, "state": "STOPPED", "ports": [19092, 19093]}
    text = panel.status_text(table, SETTINGS)
    for variable in ("XGW_API_PORT", "XGW_KAFKA_CONTROLLER_PORT", "15432"):
        assert variable in text


def test_the_printed_curl_lines_are_one_shell_command_each() -> None:
    lines = panel.curl_lines("http://127.0.0.1:8000", "to.ke-n")
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "curl"
        assert "Authorization: Bearer to.ke-n" in words
    assert json.loads(shlex.split(lines[1])[shlex.split(lines[1]).index("-d") + 1])["symbol"] == "AAPL"


def test_the_panel_names_every_place() -> None:
    tokens = {role: f"token-of-{role}" for role in panel.ROLES}
    text = panel.panel(SETTINGS.infra, Layout(Path("/srv/run")), tokens)
    for wanted in ("/docs", "15432/orders", "15432/prices", "19092", "16379", "/srv/run/logs", *tokens.values()):
        assert wanted in text
