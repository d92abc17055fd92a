"""`python -m exchange_gateway.simulator`: the exchange, alone in its process."""

from __future__ import annotations

import functools
import os
import sys

from exchange_gateway.simulator.app import opened
from exchange_gateway.simulator.chaos import ScenarioError
from exchange_gateway.simulator.journal import JournalError
from exchange_gateway.simulator.settings import SimulatorSettings
from exchange_gateway.simulator.tape import TapeError
from exchange_gateway.simulator.webhooks_http import SecretError
from infra import process
from infra.settings import SettingsError, load
from infra.telemetry import configure_logging


def main() -> None:
    environ = dict(os.environ)
    if "MARKETDATA_DIR" in environ:
        environ.setdefault("XGW_MARKETDATA_DIR", environ["MARKETDATA_DIR"])
    try:
        settings = load(SimulatorSettings, environ)
        configure_logging("venue", settings.infra.log_level)
        process.run(functools.partial(opened, settings), settings.infra.bind_host, settings.infra.venue_port)
    except (SettingsError, TapeError, JournalError, SecretError, ScenarioError) as error:
        sys.exit(f"exchange_gateway.simulator: {error}")


if __name__ == "__main__":
    main()
