"""Kill switches: how an operator sets one, and how a deciding process sees them.

The table `switches` holds the last word on each scope; the compacted topic `switches` brings it to every process, which
reads the topic whole and keeps it in memory.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import structlog

from infra.bus import Bus, Message, Producer, insisting, next_offsets
from infra.clock import Clock, Ids
from infra.contracts import SWITCHES, Malformed, Switch, SwitchMode, decode, encode
from infra.outbox import OutboxRow, record_of
from infra.principal import Principal

log = structlog.get_logger(__name__)
MESSAGES_MAX = 1000
GLOBAL = "global"
SCOPE = re.compile(r"global|symbol:[A-Z0-9.\-]{1,12}|account:[1-9][0-9]{0,17}", re.ASCII)
# How much a mode forbids; what is not listed forbids nothing.
_STRICTNESS = {"reduce_only": 1, "cancel_only": 2}


@dataclass(frozen=True, slots=True)
class Switches:
    """The switches that are on, by scope. Never changed: who decides sees one state."""

    on: Mapping[str, Switch] = field(default_factory=lambda: MappingProxyType({}))

    def strictest(self, symbol: str, account_id: int) -> Switch | None:
        """The switch that forbids most of what this account may do with this symbol; None when none is on."""
        scopes = (GLOBAL, f"symbol:{symbol}", f"account:{account_id}")
        fitting = [self.on[scope] for scope in scopes if scope in self.on]
        return max(fitting, key=lambda switch: _STRICTNESS[switch.mode], default=None)

    def merged(self, messages: Iterable[Message]) -> Switches:
        """The switches after these messages; an empty value or mode `normal` ends one. What cannot be read is logged
        and left out: every process reads this topic itself, so none of them owns its dead letters."""
        after = dict(self.on)
        for message in messages:
            scope = (message.key or b"").decode(errors="replace")
            try:
                switch: Switch | None = None if message.value is None else decode(Switch, message.value)
            except Malformed as error:
                log.error("switch_malformed", scope=scope, offset=message.offset, error=str(error))
                continue
            if switch is not None and switch.scope != scope:
                log.error("switch_of_another_scope", key=scope, scope=switch.scope, offset=message.offset)
            elif switch is None or switch.mode not in _STRICTNESS:
                after.pop(scope, None)
            else:
                after[scope] = switch
        return Switches(MappingProxyType(after))


class Switchboard:
    """`view` is replaced whole, never changed. Nobody should decide before `ready`: until then a switch may be on that
    is not yet known."""

    def __init__(self, bus: Bus, poll_s: float = 0.5) -> None:
        self._bus = bus
        self._poll_s = poll_s
        self._ready = False
        self.view = Switches()

    def ready(self) -> bool:
        """True once the topic was read to the end that it had when the reading began."""
        return self._ready

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the topic until `stop`, on what is known while the bus is away."""
        await insisting(SWITCHES, self._follow, stop)

    async def _follow(self, stop: asyncio.Event) -> None:
        ends = dict(await self._bus.ends([SWITCHES]))
        subscription = await self._bus.read([SWITCHES], "earliest")
        try:
            # The past is shown only when it has become the present: on the way there are switches that were lifted
            # since, and pauses between them.
            known = Switches()
            while not stop.is_set():
                if not ends:
                    self.view, self._ready = known, True
                messages = await subscription.batch(MESSAGES_MAX, self._poll_s)
                known = known.merged(messages)
                seen = next_offsets(messages)
                ends = {place: end for place, end in ends.items() if seen.get(place, 0) < end}
        finally:
            await subscription.close()


class SwitchStore(Protocol):
    """Where operators set switches. What is set reaches the topic, also when this process ends right after it."""

    async def set(self, asker: Principal, scope: str, mode: SwitchMode, reason: str) -> Switch:
        """The last word on a scope, signed and dated; mode `normal` lifts the switch."""
        ...

    async def all(self) -> list[Switch]:
        """The last word on each scope, by scope; also on those that were lifted."""
        ...


class MemorySwitches:
    """The twin of `switches_pg`: without a database there is no outbox, so it publishes itself."""

    def __init__(self, producer: Producer, clock: Clock, ids: Ids) -> None:
        self._producer = producer
        self._clock = clock
        self._ids = ids
        self._switches: dict[str, Switch] = {}

    async def set(self, asker: Principal, scope: str, mode: SwitchMode, reason: str) -> Switch:
        switch = Switch(scope=scope, mode=mode, reason=reason, by=asker.subject, at_ns=self._clock.now_ns())
        await self._producer.send(*record_of(outbox_row(switch, self._ids)))
        self._switches[scope] = switch
        return switch

    async def all(self) -> list[Switch]:
        return [self._switches[scope] for scope in sorted(self._switches)]


def outbox_row(switch: Switch, ids: Ids) -> OutboxRow:
    """What makes a switch known to the processes that decide."""
    event_id = str(ids.uuid7())
    return OutboxRow(
        id=event_id,
        aggregatetype=SWITCHES,
        aggregateid=switch.scope,
        type="SwitchSet",
        payload=encode(switch).decode(),
        idempotency_key=event_id,
        traceparent=f"00-{ids.random.getrandbits(128) | 1:032x}-{ids.random.getrandbits(64) | 1:016x}-01",
    )
