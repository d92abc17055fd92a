"""Settings come whole or not at all, with every problem named at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.outbox import SLOT
from infra.settings import Infra, Secrets, SettingsError, declared, load, setting
from outbox_relay.settings import RelaySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    infra: Infra
    secrets: Secrets
    flag: bool = setting(False, "A flag.")
    ratio: float = setting(0.5, "A ratio.")
    folder: Path = setting(Path("x"), "A folder.")
    needed: int = setting(doc="A number that has no default.")


SECRETS = {"XGW_JWT_SECRET": "j", "XGW_VENUE_API_KEY": "v", "XGW_WEBHOOK_SECRET": "w"}


def test_defaults_and_values() -> None:
    values = {"XGW_NEEDED": "7", "XGW_FLAG": "Yes", "XGW_RATIO": "0.25", "XGW_FOLDER": "a/b", "XGW_KAFKA_PORT": "1"}
    loaded = load(Sample, SECRETS | values)
    assert (loaded.needed, loaded.flag, loaded.ratio, loaded.folder) == (7, True, 0.25, Path("a/b"))
    assert (loaded.infra.bootstrap, loaded.infra.api_port) == ("127.0.0.1:1", 8000)
    assert loaded.infra.dsn("orders") == "postgresql://xgw:xgw@127.0.0.1:15432/orders"


def test_every_problem_is_named_at_once() -> None:
    environment = {"XGW_NEEDED": "seven", "XGW_FLAG": "perhaps", "XGW_REDIS_PORT": "", "XGW_JWT_SECRET": "j"}
    with pytest.raises(SettingsError) as caught:
        load(Sample, environment)
    text = str(caught.value)
    named = ("XGW_NEEDED", "XGW_FLAG", "XGW_REDIS_PORT", "XGW_VENUE_API_KEY", "XGW_WEBHOOK_SECRET")
    assert all(name in text for name in named)
    assert "XGW_JWT_SECRET" not in text


def test_every_setting_says_what_it_is() -> None:
    found = {name: (default, doc) for name, default, doc in declared(Sample)}
    assert found["XGW_RATIO"] == (0.5, "A ratio.")
    assert found["XGW_POSTGRES_PORT"][0] == 15432
    assert all(doc for _, doc in found.values())
    with pytest.raises(SettingsError):
        setting(1)


def test_the_relays_settings() -> None:
    loaded = load(RelaySettings, {})
    assert (loaded.relay_mode, loaded.relay_database, loaded.relay_slot) == ("cdc", "orders", SLOT)
    assert load(RelaySettings, {"XGW_RELAY_MODE": "polling"}).relay_mode == "polling"


@pytest.mark.parametrize("variable", ["XGW_RELAY_MODE", "XGW_RELAY_POLL_MS", "XGW_RELAY_UNACKNOWLEDGED_MAX"])
def test_settings_that_the_relay_refuses(variable: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        load(RelaySettings, {variable: "0"})
