"""python -m outbox_relay"""

from __future__ import annotations

import functools
import os

from infra.process import run
from infra.settings import load
from infra.telemetry import configure_logging
from outbox_relay.app import NAME, opened
from outbox_relay.settings import RelaySettings


def main() -> None:
    settings = load(RelaySettings, os.environ)
    configure_logging(NAME, settings.infra.log_level)
    run(functools.partial(opened, settings), settings.infra.bind_host, settings.infra.relay_port)


if __name__ == "__main__":
    main()
