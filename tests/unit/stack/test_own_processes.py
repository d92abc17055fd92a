"""Which processes are ours, and ending those and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack import own

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(60)"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER


@pytest.fixture
def spawned() -> Iterator[list[subprocess.Popen[bytes]]]:
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        child.kill()
        child.communicate()


def _spawn(children: list[subprocess.Popen[bytes]], code: str, mark: str | None) -> subprocess.Popen[bytes]:
    environ = {k: v for k, v in os.environ.items() if k != own.MARK} | ({own.MARK: mark} if mark else {})
    child = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE)
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    return child


def test_only_processes_with_our_mark_are_ended(tmp_path: Path, spawned: list[subprocess.Popen[bytes]]) -> None:
    ours = _spawn(spawned, SLEEPER, str(tmp_path))
    other_stack = _spawn(spawned, SLEEPER, str(tmp_path / "other"))
    unmarked = _spawn(spawned, SLEEPER, None)
    assert [p.pid for p in own.end(tmp_path, patience_s=10)] == [ours.pid]
    assert ours.wait(10) == -signal.SIGTERM
    assert other_stack.poll() is None
    assert unmarked.poll() is None


def test_one_that_does_not_listen_is_killed(tmp_path: Path, spawned: list[subprocess.Popen[bytes]]) -> None:
    deaf = _spawn(spawned, DEAF, str(tmp_path))
    own.end(tmp_path, patience_s=0.2)
    assert deaf.wait(10) == -signal.SIGKILL


def test_nothing_to_end_is_no_error(tmp_path: Path) -> None:
    assert own.end(tmp_path) == []


def test_the_mark_is_read_whole() -> None:
    assert own.mark_of(b"A=1\0XGW_STACK=/a b/run\0B=2") == "/a b/run"
    assert own.mark_of(b"MY_XGW_STACK=/run\0") is None
    assert own.mark_of(b"") is None


def test_a_pid_given_to_a_foreign_process_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "41").mkdir()
    (tmp_path / "41/environ").write_bytes(b"XGW_STACK=/other\0")
    (tmp_path / "42").mkdir()
    (tmp_path / "42/environ").write_bytes(b"XGW_STACK=/ours\0")
    (tmp_path / "42/cmdline").write_bytes(b"/venv/bin/python\0-m\0supervisor.supervisord\0")
    (tmp_path / "43").mkdir()
    assert own.found(Path("/ours"), tmp_path) == [own.Owned(42, "supervisord")]


def test_postgres_is_told_to_end_its_sessions() -> None:
    assert own.signal_for("postgres") is signal.SIGINT
    assert own.signal_for("java") is signal.SIGTERM
