"""Settings of the simulator and the tape that they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange_gateway.simulator.app import tape_of
from exchange_gateway.simulator.settings import SimulatorSettings
from exchange_gateway.simulator.synthetic import symbol_names
from exchange_gateway.simulator.tape import write_synthetic
from infra.settings import SettingsError, declared, load

SECRETS = {"XGW_JWT_SECRET": "j", "XGW_VENUE_API_KEY": "k", "XGW_WEBHOOK_SECRET": "whsec_eA=="}


def settings(**given: str) -> SimulatorSettings:
    return load(SimulatorSettings, SECRETS | {f"XGW_{name.upper()}": value for name, value in given.items()})


@pytest.mark.parametrize(("text", "speed"), [("1x", 1.0), ("10x", 10.0), ("2.5", 2.5), ("MAX", None)])
def test_speeds(text: str, speed: float | None) -> None:
    assert settings(tape_speed=text).speed == speed


@pytest.mark.parametrize("text", ["", "fast", "0x", "-1x", "inf", "nan"])
def test_a_speed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="XGW_TAPE_SPEED"):
        _ = settings(tape_speed=text).speed


def test_the_clock_is_wall_or_tape() -> None:
    assert not settings().is_tape_clock
    assert settings(tape_clock="tape").is_tape_clock
    with pytest.raises(SettingsError, match="XGW_TAPE_CLOCK"):
        _ = settings(tape_clock="sun").is_tape_clock


def test_webhooks_go_to_the_gateway_unless_told_otherwise() -> None:
    assert settings(gateway_port="8201").webhooks_to == "http://127.0.0.1:8201/webhooks"
    assert settings(webhook_url="http://127.0.0.1:1/x").webhooks_to == "http://127.0.0.1:1/x"


def test_the_tape_is_the_given_file_or_the_recorded_day_or_a_synthetic_one(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    synthetic = tape_of(settings(marketdata_dir=nowhere, tape_symbols="3", tape_synthetic_rows="100"))
    assert set(synthetic.listings) == set(symbol_names(3))
    write_synthetic(tmp_path / "given.parquet", 2, 100, 1)
    given = tape_of(settings(tape=str(tmp_path / "given.parquet"), marketdata_dir=nowhere))
    assert given.label.endswith("given.parquet")
    (tmp_path / "tape").mkdir()
    write_synthetic(tmp_path / "tape" / "ticks_2013-10-08.parquet", 4, 100, 1)
    found = tape_of(settings(marketdata_dir=str(tmp_path)))
    assert found.label.endswith("ticks_2013-10-08.parquet")


def test_every_setting_has_its_sentence() -> None:
    assert all(doc for _, _, doc in declared(SimulatorSettings))
