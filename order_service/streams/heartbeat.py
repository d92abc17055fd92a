"""Heartbeats of the order streams: a proof for the client that it missed nothing.

Every stream of an account gets, when it opens and then every 15 seconds, an event `heartbeat` with the number of the
account's last event, how many orders it had open then, and a digest of them: SHA-256 in hex over a line
`<order id> <version> <status>` and a newline for each, by id. A client that keeps the orders of the events it was sent
makes the same lines of those that are not final. The heartbeat comes right after the event of that number (or where it
would be), so the two are of one moment: when they differ, the client missed something or is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import sha256

import structlog

from infra.clock import wait
from infra.db import TRANSIENT
from infra.principal import system
from infra.sse import frame
from order_service.store.ports import Open, OpenOrder, OpenOrders
from order_service.streams.fanout import Beat, Fanout

log = structlog.get_logger(__name__)

EVERY_S = 15.0
LOOK_S = 0.5
# A store that does not answer within this has its heartbeat left out.
ANSWER_S = 2.0
LEFT_OUT = Beat(None, b": no heartbeat: the store does not answer\n\n")


def digest(orders: Iterable[OpenOrder]) -> str:
    """`orders` are open ones, in any order."""
    lines = (f"{order.id} {order.version} {order.status}\n" for order in sorted(orders))
    return sha256("".join(lines).encode()).hexdigest()


def beat_of(found: OpenOrders) -> Beat:
    """Without an event id, so that the client's Last-Event-ID stays where it is."""
    body = f'{{"accountSeq":{found.seq},"openOrders":{len(found.orders)},"digest":"{digest(found.orders)}"}}'
    return Beat(found.seq, frame(body.encode(), event="heartbeat"))


class Heartbeats:
    """Reads each account that is followed here once per interval and when a stream opens; all its streams share it."""

    def __init__(self, store: Open, fanout: Fanout, every_s: float = EVERY_S, look_s: float = LOOK_S) -> None:
        self._store = store
        self._fanout = fanout
        self._every_s = every_s
        self._look_s = look_s
        self._due_s: dict[int, float] = {}
        self._reading: dict[int, asyncio.Task[Beat]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await wait(stop, self._look_s)
            now_s = asyncio.get_running_loop().time()
            followed = self._fanout.accounts()
            self._due_s = {account: self._due_s.get(account, now_s) for account in followed}
            for account in [account for account, due_s in self._due_s.items() if due_s <= now_s]:
                await self.beat(account)

    async def beat(self, account_id: int) -> Beat:
        """One heartbeat now, for every stream of the account; callers at the same time share it."""
        reading = self._reading.get(account_id)
        if reading is None:
            reading = self._reading[account_id] = asyncio.create_task(self._read(account_id))
            reading.add_done_callback(lambda _: self._reading.pop(account_id))
        return await asyncio.shield(reading)

    async def _read(self, account_id: int) -> Beat:
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await self._store.open_orders(system("order-stream"), account_id)
        except TRANSIENT as error:
            log.warning("heartbeat_left_out", account_id=account_id, error=str(error))
            found = None
        beat = LEFT_OUT if found is None else beat_of(found)
        self._due_s[account_id] = asyncio.get_running_loop().time() + self._every_s
        self._fanout.beat(account_id, beat)
        return beat
