"""What operators may do, wired: on PostgreSQL and Kafka (`open_doors`), or on any stores and bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter

from api.ops import dlq, switches
from infra.bus_kafka import KafkaBus
from infra.clock import Ids, SystemClock
from infra.db import engine
from infra.direct import Handlers
from infra.dlq.letters import DeadLetters
from infra.dlq.letters_pg import PgLetters, PgTurn
from infra.dlq.replay import Replay
from infra.process import Part, Ready
from infra.settings import Infra
from infra.switches import SwitchStore
from infra.switches_pg import PgSwitches

NAME = "api-ops"

# What a service offers to operators: its routers, given the dependency that admits operators only.
OperatorRouters = Callable[[Callable[..., Any]], Sequence[APIRouter]]
OperatorOpener = Callable[[asyncio.Event], contextlib.AbstractAsyncContextManager[OperatorRouters]]


@dataclass(frozen=True, slots=True)
class OpsDoors:
    """The operators' routes. `services` is the place of those that a service offers."""

    letters: DeadLetters
    replay: Replay
    switches: SwitchStore
    services: Sequence[OperatorRouters] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)
    ready: Mapping[str, Ready] = field(default_factory=dict)
    direct: Handlers = field(default_factory=dict)

    def routers(self, principal: Callable[..., Any]) -> list[APIRouter]:
        """`principal` is the dependency that admits operators only."""
        own = [dlq.routes(self.letters, self.replay, principal), switches.routes(self.switches, principal)]
        return own + [router for offered in self.services for router in offered(principal)]


@contextlib.asynccontextmanager
async def open_doors(infra: Infra, services: Sequence[OperatorOpener], stop: asyncio.Event) -> AsyncIterator[OpsDoors]:
    """The doors on PostgreSQL and Kafka, with what the services' openers give."""
    clock = SystemClock()
    producer = KafkaBus(infra.bootstrap, NAME).producer()
    source = engine(infra.dsn("orders"), NAME)
    letters = PgLetters(source, clock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(source.dispose)
        stack.push_async_callback(producer.close)
        offered = [await stack.enter_async_context(opened(stop)) for opened in services]
        yield OpsDoors(
            letters, Replay(letters, producer, PgTurn(source)), PgSwitches(source, clock, Ids(clock)), offered
        )
