"""`python -m api --roles prices,orders,ops`: the clients' door, as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from api import app, roles
from api.app import Opener
from api.auth.tokens import WeakSecret, key_of
from api.ops import doors as ops
from api.roles import Door
from api.settings import ApiSettings
from infra.process import Service, run
from infra.settings import Infra, SettingsError, load
from infra.telemetry import configure_logging
from order_service import app as orders
from order_service.settings import OrderSettings
from price_service import app as prices
from price_service.settings import Settings as PriceSettings

EXIT_SETTINGS = 3


def openers(chosen: Sequence[Door], environ: Mapping[str, str]) -> dict[Door, Opener]:
    """Whose doors each chosen role opens, with the service's own settings."""
    found: dict[Door, Opener] = {}
    if "prices" in chosen:
        found["prices"] = partial(prices.open_doors, load(PriceSettings, environ))
    if "orders" in chosen:
        found["orders"] = partial(orders.open_doors, load(OrderSettings, environ))
    if "ops" in chosen:
        offered = [partial(orders.open_operators, load(OrderSettings, environ))]
        found["ops"] = partial(ops.open_doors, load(Infra, environ), offered)
    return found


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    try:
        chosen = roles.from_arguments(argv)
        settings = load(ApiSettings, environ)
        key_of(settings.secrets.jwt_secret)
        doors = openers(chosen, environ)
    except (SettingsError, WeakSecret, roles.UnknownRole) as error:
        sys.stderr.write(f"api cannot start: {error}\n")
        return EXIT_SETTINGS
    configure_logging(app.NAME, settings.infra.log_level)

    def service(stop: asyncio.Event) -> contextlib.AbstractAsyncContextManager[Service]:
        return app.opened(settings, doors, stop, chosen)

    run(service, settings.infra.bind_host, settings.infra.api_port)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
