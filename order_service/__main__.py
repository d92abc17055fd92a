"""`python -m order_service`: the worker that applies reports, as a process."""

from __future__ import annotations

import os
import sys
from functools import partial

from infra.process import run
from infra.settings import SettingsError, load
from infra.telemetry import configure_logging
from order_service import app
from order_service.settings import OrderSettings

EXIT_SETTINGS = 3


def main() -> int:
    try:
        settings = load(OrderSettings, os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{app.NAME} cannot start: {error}\n")
        return EXIT_SETTINGS
    configure_logging(app.NAME, settings.infra.log_level)
    run(partial(app.opened, settings), settings.infra.bind_host, settings.infra.order_service_port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
