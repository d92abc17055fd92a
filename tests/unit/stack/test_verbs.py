"""The command line: exit codes and messages, and the Makefile in front of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.stack import __main__ as verbs
from infra.stack.layout import REPOSITORY
from infra.stack.settings import StackSettings, load_stack


def _run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("XGW_", "MAKE"))} | variables
    return subprocess.run(
        command, cwd=REPOSITORY, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _verb(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-m", "infra.stack", *args], **variables)


def _make(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # -o: the packages of this very Python are not installed again by a test.
    return _run(["make", "-s", "-o", ".venv/.installed", *args], **variables)


def test_a_malformed_setting_is_an_error_without_a_traceback() -> None:
    done = _verb("up", XGW_API_PORT="eighty")
    assert done.returncode == 1
    assert "XGW_API_PORT='eighty'" in done.stderr
    assert "Traceback" not in done.stderr


def test_verbs_are_harmless_where_nothing_ever_ran(tmp_path: Path) -> None:
    run_dir = str(tmp_path / "run")
    down = _verb("down", XGW_RUN_DIR=run_dir)
    assert (down.returncode, down.stderr.strip()) == (0, "nothing was running")
    status = _verb("status", "--json", XGW_RUN_DIR=run_dir)
    assert status.returncode == 0
    assert '"state": "STOPPED"' in status.stdout
    for verb in (["logs"], ["token", "--role", "investor"]):
        done = _verb(*verb, XGW_RUN_DIR=run_dir)
        assert done.returncode == 1
        assert "`make up` first" in done.stderr


def test_reset_asks_and_without_anybody_to_ask_changes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    refused = _verb("reset", XGW_RUN_DIR=str(tmp_path))
    assert refused.returncode == 1
    assert "YES=1" in refused.stderr
    assert data.exists()
    assert _verb("reset", "--yes", XGW_RUN_DIR=str(tmp_path)).returncode == 0
    assert not data.exists()


def test_later_verbs_use_the_settings_that_up_used(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"XGW_API_PORT": "9123"}')
    done = _verb("status", "--json", XGW_RUN_DIR=str(tmp_path))
    assert '"ports": [9123]' in done.stdout


@pytest.mark.parametrize(("given", "expected"), [({}, "true"), ({"XGW_PRICES_SEED_HISTORY": "false"}, "false")])
def test_up_has_history_made_up_unless_its_caller_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str
) -> None:
    handed: list[Mapping[str, str]] = []

    class Made(Exception):
        pass

    def made(settings: StackSettings, environ: Mapping[str, str], **_: object) -> None:
        handed.append(environ)
        raise Made

    monkeypatch.setattr(verbs, "Stack", made)
    environ = {"XGW_RUN_DIR": str(tmp_path), **given}
    with pytest.raises(Made):
        verbs.up(load_stack(environ), environ, servers_only=True)
    assert handed[0]["XGW_PRICES_SEED_HISTORY"] == expected


def test_help_is_the_default_and_names_every_verb() -> None:
    shown = _make().stdout
    for verb in (
        "up",
        "down",
        "status",
        "logs",
        "reset",
        "test",
        "test-full",
        "bench",
        "demo",
        "token",
        "lint",
        "fmt",
        "lock",
    ):
        assert f"make {verb} " in shown


def test_a_token_needs_a_role() -> None:
    done = _make("token")
    assert done.returncode != 0
    assert "ROLE is missing" in done.stderr
    assert done.stdout == ""


def test_too_old_a_python_is_told_with_the_way_out() -> None:
    done = _run(["make", "-s", "-W", "requirements.lock", "-o", "pyproject.toml", ".venv/.installed", "PYTHON=false"])
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("variable", ["TAPE", "XGW_TAPE"])
def test_a_tape_reaches_the_stack(variable: str) -> None:
    shown = _run(["make", "-s", "--eval", "show: ; @echo $$XGW_TAPE", "show"], **{variable: "ticks.parquet"})
    assert shown.stdout.strip() == "ticks.parquet"
