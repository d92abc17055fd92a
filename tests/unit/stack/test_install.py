"""Installing: what is complete, what is done again, and what a newcomer is told."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from infra.stack import install
from infra.stack.errors import StackError
from infra.stack.layout import Cache


def _silent(_: str) -> None:
    return None


def test_an_interrupted_install_is_done_again_and_a_complete_one_is_not(tmp_path: Path) -> None:
    place = tmp_path / "kafka"
    with contextlib.suppress(RuntimeError), install.fresh_folder(place, "4.3", "Kafka", _silent) as folder:
        (folder / "half.jar").touch()
        raise RuntimeError("the power went")
    assert not install.complete(place, "4.3")
    with install.fresh_folder(place, "4.3", "Kafka", _silent) as folder:
        (folder / "whole.jar").touch()
    assert install.complete(place, "4.3")
    assert not (place / "half.jar").exists()
    assert not install.complete(place, "4.4")


def test_too_little_space_names_the_folder_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=rf"needs .* GiB free in {tmp_path}.*make room there.*XGW_CACHE_DIR"):
        install.require_space(tmp_path, 1 << 60, "installing the servers")
    install.require_space(tmp_path, 0, "nothing")


def test_without_root_the_message_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StackError, match=r"run as root.*make demo"):
        install.require_root()


def test_a_missing_tool_without_apt_is_named_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(StackError, match=r"maven.*no apt-get here"):
        install.need(("mvn",), Cache(tmp_path), _silent)


def test_tools_that_are_there_install_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    install.need(("mvn", "debootstrap"), Cache(tmp_path), _silent)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_step_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"failed with code 3(.|\n)*no such mirror"):
        install.run(["sh", "-c", "echo no such mirror; exit 3"], Cache(tmp_path))


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 1),
        ('openjdk version "25"', 25),
        ("?", None),
    ],
)
def test_javas_version_is_read(text: str, major: int | None) -> None:
    assert install.java_major(text) == major


def test_a_lock_is_free_again_after_its_holder(tmp_path: Path) -> None:
    waited: list[bool] = []
    with install.locked(tmp_path / "lock", lambda: waited.append(True)):
        pass
    with install.locked(tmp_path / "lock", lambda: waited.append(True)):
        pass
    assert waited == []


def test_servers_count_as_the_hosts_only_when_all_are_there(tmp_path: Path) -> None:
    for path in ("usr/lib/postgresql/17/bin/postgres", "usr/bin/redis-server"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert not install.servers_in(tmp_path)
    extension = tmp_path / "usr/share/postgresql/17/extension/timescaledb.control"
    extension.parent.mkdir(parents=True)
    extension.touch()
    assert install.servers_in(tmp_path)
