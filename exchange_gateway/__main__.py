"""Runs the exchange gateway until SIGTERM."""

from __future__ import annotations

import os
import sys

from exchange_gateway.app import NAME, opened
from exchange_gateway.settings import Settings
from infra.process import run
from infra.settings import SettingsError, load
from infra.telemetry import configure_logging


def main() -> None:
    try:
        settings = load(Settings, os.environ)
    except SettingsError as error:
        sys.exit(f"{NAME}: {error}")
    configure_logging(NAME, settings.infra.log_level)
    run(lambda stop: opened(settings, stop), settings.infra.bind_host, settings.infra.gateway_port)


if __name__ == "__main__":
    main()
