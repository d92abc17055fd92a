"""What goes wrong in a world, decided by its seed: at the exchange, to our processes, in the weather, by operators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from exchange_gateway.simulator.chaos import Rule
from infra.contracts import ORDER_STATUS, ORDERS, SwitchMode
from infra.principal import Principal
from tests.simulation.nodes import Node
from tests.simulation.workload import OPENING_MICROS
from tests.simulation.world import World

OPERATOR = Principal("operator", "operator")
GARBAGE = b'{"kind":"subm\xff'
# (kind, chance that a world has it, chance per event in such a world, further terms)
_RULES: tuple[tuple[str, float, float, dict[str, Any]], ...] = (
    ("lost_response", 0.6, 0.08, {}),
    ("delayed_acceptance", 0.6, 0.05, {"delay_s": 1.5}),
    ("delayed_acceptance", 0.3, 0.05, {"delay_s": 7.0}),
    ("server_error_before", 0.5, 0.05, {}),
    ("server_error_after", 0.5, 0.05, {"status": 502}),
    ("too_many_requests", 0.4, 0.04, {"retry_after_s": 1}),
    ("slow_drip", 0.3, 0.03, {"delay_s": 0.002}),
    ("truncated_body", 0.4, 0.04, {}),
    ("garbage_body", 0.4, 0.04, {}),
    ("reset_mid_body", 0.4, 0.04, {}),
    ("lost_response", 0.3, 0.4, {"on": ("query",)}),
    ("halted_symbol", 0.3, 0.03, {"delay_s": 4.0}),
    ("stray_fill", 0.3, 0.02, {"delay_s": 0.3, "quantity": 7}),
    ("disconnect", 0.3, 0.03, {}),
    ("bust", 0.4, 0.06, {"delay_s": 1.0}),
    ("bust", 0.2, 0.03, {"delay_s": 0.0}),
    ("correct", 0.4, 0.06, {"delay_s": 0.5}),
    ("overfill", 0.25, 0.03, {"delay_s": 0.4, "quantity": 5}),
    ("duplicate_report", 0.6, 0.15, {}),
    ("reordered_reports", 0.6, 0.15, {"delay_s": 1.0}),
    ("missing_webhook", 0.6, 0.2, {}),
    ("wrong_quantity", 0.25, 0.04, {}),
    ("missing_frame", 0.5, 0.08, {}),
    ("drop_copy_disconnect", 0.4, 0.05, {}),
)


@dataclass(slots=True)
class Struck:
    """What was done to the world, for those who explain what is found afterwards."""

    rules: list[Rule] = field(default_factory=list)
    garbage: int = 0
    lost_memory: bool = False

    def has(self, kind: str) -> bool:
        return any(rule.kind == kind for rule in self.rules)


class Faults:
    """Strikes until `end`; then everything runs again and the weather is fair."""

    def __init__(self, world: World, length_s: float) -> None:
        self.struck = Struck()
        self._world = world
        self._random = Random(world.random.getrandbits(64))
        self._length_s = length_s
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        random, world = self._random, self._world
        for kind, common, chance, terms in _RULES:
            if random.random() < common:
                rule = Rule(kind=kind, probability=chance * random.uniform(0.3, 1.7), **terms)  # type: ignore[arg-type]
                self.struck.rules.append(rule)
        world.venue.chaos.add(self.struck.rules)
        for node in world.nodes.values():
            for _ in range(2):
                self._at(partial(self._kill, node))
            if random.random() < 0.3:
                self._at(partial(self._stall, node))
        if random.random() < 0.5:
            self._at(lambda: self._venue_restarts(with_memory=True))
        if random.random() < 0.12:
            self.struck.lost_memory = True
            self._at(lambda: self._venue_restarts(with_memory=False))
        if random.random() < 0.3:
            self._at(self._session_ends)
        if random.random() < 0.4:
            self._at(self._switched)
        if random.random() < 0.3:
            self._at(self._garbage)

    async def end(self) -> None:
        """Nothing strikes any more, and whoever is down comes back."""
        await asyncio.gather(*self._tasks)
        world = self._world
        world.venue.chaos.clear()
        world.weather.fair = True
        for node in world.nodes.values():
            if node.process is not None:
                node.process.fuse = None

    def _at(self, act: Callable[[], Awaitable[None]]) -> None:
        seconds = self._random.uniform(0.5, self._length_s)

        async def later() -> None:
            await asyncio.sleep(seconds)
            await act()

        self._tasks.append(asyncio.ensure_future(later()))

    async def _kill(self, node: Node) -> None:
        """At once, or in the middle of its work some callbacks later."""
        if node.process is None:
            return
        if self._random.random() < 0.3:
            node.kill()
        else:
            node.process.fuse = self._random.randint(1, 400)

    async def _stall(self, node: Node) -> None:
        process = node.process
        if process is None:
            return
        self._world.loop.stall(process)
        await asyncio.sleep(self._random.uniform(0.5, 6.0))
        self._world.loop.resume(process)

    async def _venue_restarts(self, with_memory: bool) -> None:
        venue = self._world.venue
        if venue.is_down:
            return
        venue.crash()
        await asyncio.sleep(self._random.uniform(0.2, 5.0))
        if venue.is_down:
            venue.restart(with_memory)
            self._world.tell_session()

    async def _session_ends(self) -> None:
        if not self._world.venue.is_down:
            self._world.close_session()

    async def _switched(self) -> None:
        """An operator pulls a kill switch, and lets go of it later."""
        scopes = ["global", *(f"symbol:{symbol}" for symbol in OPENING_MICROS), "account:2"]
        scope = self._random.choice(scopes)
        modes: tuple[SwitchMode, ...] = ("cancel_only", "reduce_only")
        await self._world.switches.set(OPERATOR, scope, self._random.choice(modes), "a drill")
        await asyncio.sleep(self._random.uniform(0.5, 5.0))
        await self._world.switches.set(OPERATOR, scope, "normal", "the drill is over")

    async def _garbage(self) -> None:
        """Bytes that nobody can read, on a topic that a worker of ours consumes; among the commands under the key of an
        order, whose later commands then wait behind it for an operator."""
        topic, orders = self._random.choice((ORDERS, ORDER_STATUS)), sorted(self._world.store.orders)
        key = self._random.choice(orders).encode() if orders else b"garbage"
        self._world.bus.append(topic, key, GARBAGE, ())
        self.struck.garbage += 1
