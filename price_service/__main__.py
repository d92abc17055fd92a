"""Runs the price service's worker until SIGTERM."""

from __future__ import annotations

import os

from infra.process import run
from infra.settings import load
from infra.telemetry import configure_logging
from price_service.app import NAME, opened
from price_service.settings import Settings


def main() -> None:
    settings = load(Settings, os.environ)
    configure_logging(NAME, settings.infra.log_level)
    run(lambda stop: opened(settings, stop), settings.infra.bind_host, settings.infra.price_service_port)


if __name__ == "__main__":
    main()
