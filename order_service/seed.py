"""`python -m order_service.seed`: the demo accounts 1 to 5, in the database of the settings. Safe to repeat."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from infra.settings import load
from order_service.settings import OrderSettings
from order_service.store.orders_pg import add_accounts

DEMO_ACCOUNTS = tuple((number, f"Demo account {number}") for number in range(1, 6))


def main(environ: Mapping[str, str]) -> int:
    settings = load(OrderSettings, environ)
    asyncio.run(add_accounts(settings.infra.dsn("orders"), DEMO_ACCOUNTS))
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
