"""`python -m order_service.seed`: the demo accounts 1 to 5 and their funds, in the database of the settings. Safe to
repeat."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from infra.clock import SystemClock
from infra.principal import system
from infra.settings import load
from order_service.settings import OrderSettings
from order_service.store.books_pg import PgBooks
from order_service.store.funding import DEMO_ACCOUNTS, DEMO_FUNDS, fund
from order_service.store.orders_pg import add_accounts, opened


def main(environ: Mapping[str, str]) -> int:
    settings = load(OrderSettings, environ)
    asyncio.run(seed(settings.infra.dsn("orders")))
    return 0


async def seed(dsn: str) -> None:
    await add_accounts(dsn, [(number, f"Demo account {number}") for number in DEMO_ACCOUNTS])
    async with opened(dsn, "seed") as orders:
        books = PgBooks(orders, SystemClock())
        for number in DEMO_ACCOUNTS:
            await fund(books, system("seed"), number, DEMO_FUNDS)


if __name__ == "__main__":
    sys.exit(main(os.environ))
