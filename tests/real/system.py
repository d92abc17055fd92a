"""The whole system as real processes on real servers, in a run folder and on ports of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

from infra.bus_kafka import KafkaBus
from infra.contracts import ORDER_EVENTS, OrderEvent, decode
from infra.principal import Role
from infra.stack.processes import SERVERS, SERVICES
from infra.stack.stack import Stack, throwaway_settings
from tests.flow.walking import Doors

COUNTS = """SELECT symbol, session, count(*), count(DISTINCT q), max(q) FROM ticks GROUP BY symbol, session"""


@dataclass(frozen=True, slots=True)
class RealInside:
    prices_dsn: str
    bootstrap: str

    async def tick_counts(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        async with await psycopg.AsyncConnection.connect(self.prices_dsn) as connection:
            cursor = await connection.execute(COUNTS)
            return {(row[0], row[1]): (row[2], row[3], row[4]) for row in await cursor.fetchall()}

    async def order_events(self) -> list[OrderEvent]:
        reader = await KafkaBus(self.bootstrap, "test").read([ORDER_EVENTS], "earliest")
        found: list[OrderEvent] = []
        try:
            while messages := await reader.batch(10_000, 2.0):
                found += [decode(OrderEvent, message.value) for message in messages]
        finally:
            await reader.close()
        return found


@contextlib.contextmanager
def running(variables: Mapping[str, str]) -> Iterator[tuple[Stack, Doors]]:
    """Everything up and ready, with these settings; all of it ended and removed afterwards."""
    settings = throwaway_settings(os.environ)
    environ = dict(os.environ) | dict(variables)
    try:
        with Stack(settings, environ, attached=True) as stack:
            stack.start(SERVERS)
            stack.prepare()
            stack.start(SERVICES)
            yield stack, doors_of(stack)
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)


def doors_of(stack: Stack) -> Doors:
    infra = stack.settings.infra
    tokens: dict[tuple[Role, int | None], str] = {}

    def token(role: Role, account: int | None) -> str:
        if (role, account) not in tokens:
            named = [] if account is None else ["--account", str(account)]
            tokens[role, account] = stack.run_module("api.auth.issue", "--role", role, *named).strip()
        return tokens[role, account]

    return Doors(
        api_url=f"http://127.0.0.1:{infra.api_port}",
        venue_url=f"http://127.0.0.1:{infra.venue_port}",
        venue_key=stack.secrets["XGW_VENUE_API_KEY"],
        token=token,
        inside=RealInside(infra.dsn("prices"), infra.bootstrap),
    )
