"""Settings, folders, secrets: what is written, remembered and found again."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.settings import SettingsError
from infra.stack import secret_file
from infra.stack.layout import SOCKET_PATH_MAX, Layout
from infra.stack.settings import as_environ, load_stack, own_variables, recall, remember


def test_settings_survive_the_way_through_an_environment() -> None:
    settings = load_stack({"XGW_API_PORT": "9000", "XGW_RUN_DIR": "/somewhere", "XGW_SERVERS": "local"})
    assert load_stack(as_environ(settings)) == settings
    assert settings.infra.api_port == 9000


def test_folders_are_absolute_so_that_a_later_working_directory_does_not_matter() -> None:
    assert load_stack({}).infra.run_dir.is_absolute()
    assert load_stack({}).infra.cache_dir.is_absolute()


def test_an_unknown_kind_of_servers_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="XGW_SERVERS='podman'"):
        load_stack({"XGW_SERVERS": "podman"})


def test_only_our_variables_reach_the_processes_and_the_tape_is_absolute() -> None:
    given = {"HOME": "/root", "XGW_TAPE": "ticks.parquet", "XGW_EMPTY": "", "XGW_REPLAY_SPEED": "10"}
    assert own_variables(given) == {"XGW_TAPE": str(Path.cwd() / "ticks.parquet"), "XGW_REPLAY_SPEED": "10"}


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_torn_memory_counts_as_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "stack.json"
    file.write_text(content)
    assert recall(file) == {}
    assert recall(tmp_path / "missing.json") == {}


def test_what_up_used_is_found_again(tmp_path: Path) -> None:
    remember(tmp_path / "stack.json", {"XGW_API_PORT": "9000"})
    assert recall(tmp_path / "stack.json") == {"XGW_API_PORT": "9000"}


def test_a_long_run_folder_gets_a_short_socket_of_its_own() -> None:
    short, long, other = Layout(Path("/srv/run")), Layout(Path("/" + "x" * 120)), Layout(Path("/" + "y" * 120))
    assert short.supervisor_socket == Path("/srv/run/supervisor.sock")
    assert len(str(long.supervisor_socket)) <= SOCKET_PATH_MAX
    assert long.supervisor_socket != other.supervisor_socket


def test_secrets_are_made_once_and_only_for_their_owner(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    first = secret_file.ensured(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret_file.ensured(file) == first
    assert len(bytes.fromhex(first["XGW_JWT_SECRET"])) >= 32
    assert first["XGW_WEBHOOK_SECRET"].startswith("whsec_")


def test_a_secret_added_by_a_later_version_does_not_change_the_others(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    file.write_text("# made by hand\nXGW_JWT_SECRET=kept=with=signs\n")
    merged = secret_file.ensured(file)
    assert merged["XGW_JWT_SECRET"] == "kept=with=signs"
    assert merged["XGW_VENUE_API_KEY"]


def test_the_administrators_password_stays_with_the_stack() -> None:
    assert secret_file.ADMIN_PASSWORD not in secret_file.for_services(secret_file.made_secrets())
