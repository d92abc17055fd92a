"""Idempotency-Key: whether two requests are the same request, and what of that the cache remembers.

Truth is the unique (account, key) and the request hash on the order row, in the order's own transaction. The cache only
spares the database: while a request is handled it holds a marker, afterwards the finished 201. Down or flushed it costs
speed and nothing else: a request that finds nothing there is decided by the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import structlog

from infra.cache import Cache, CacheDown
from infra.clock import Clock
from infra.telemetry import KEYS_WITHOUT_CACHE
from order_service.domain.order import Order, Ticket

log = structlog.get_logger(__name__)
T = TypeVar("T")

KEY_CHARACTERS_MAX = 255
_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{KEY_CHARACTERS_MAX}}}")
_HASH_CHARACTERS = 64

IN_FLIGHT_S = 10
FINISHED_S = 24 * 3600
# A cache that does not answer in time is left alone for a while, so that it costs one request this time, not each.
TIMEOUT_S = 0.05
PAUSE_S = 1.0


def valid_key(key: str) -> bool:
    """1 to 255 visible ASCII characters (draft-ietf-httpapi-idempotency-key-header)."""
    return _VISIBLE.fullmatch(key) is not None


def request_hash(ticket: Ticket) -> str:
    """SHA-256 over the request's meaning, so that 10, 10.0 and "10.00" as an amount are the same request."""
    amount = "" if ticket.amount_micros is None else str(ticket.amount_micros)
    parts = (ticket.order_type, ticket.type, ticket.symbol, str(ticket.quantity), amount, ticket.tif)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def differing(ticket: Ticket, order: Order) -> list[str]:
    """The fields, as the HTTP API calls them, in which the request differs from the one that made the order."""
    pairs = {
        "orderType": (ticket.order_type, order.order_type),
        "type": (ticket.type, order.type),
        "symbol": (ticket.symbol, order.symbol),
        "quantity": (ticket.quantity, order.quantity),
        "amount": (ticket.amount_micros, order.amount_micros),
        "timeInForce": (ticket.tif, order.tif),
    }
    return [name for name, (mine, first) in pairs.items() if mine != first]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the cache said of a key. `ours`: the marker is ours and must be ended. With `body` the request was finished
    before: the first answer. `unknown`: ask the database."""

    state: Literal["ours", "in_flight", "finished", "unknown"]
    name: str
    request_hash: str
    body: bytes = b""


class Keys:
    """The keys that are being handled and those that were, in the cache: `<request hash>` and then the finished body,
    empty while it is in flight."""

    def __init__(self, cache: Cache, clock: Clock, timeout_s: float = TIMEOUT_S, pause_s: float = PAUSE_S) -> None:
        self._cache = cache
        self._clock = clock
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._away_until_s = 0.0
        self._writing: dict[str, asyncio.Task[object]] = {}

    async def claim(self, account_id: int, key: str, request_hash: str) -> Claim:
        """Say that the request is being handled, unless somebody said so before."""
        name = f"idempotency:{account_id}:{key}"
        if (writing := self._writing.get(name)) is not None:
            await asyncio.wait({writing})  # its answer has left, so it is not in flight any more
        marker = request_hash.encode()
        placed = await self._asked(lambda: self._cache.put(name, marker, IN_FLIGHT_S, only_new=True))
        if placed is None:
            return Claim("unknown", name, request_hash)
        if placed:
            return Claim("ours", name, request_hash)
        found = await self._asked(lambda: self._cache.get(name)) or b""
        seen, body = found[:_HASH_CHARACTERS], found[_HASH_CHARACTERS:]
        if seen and not body:
            return Claim("in_flight", name, request_hash)
        if seen == marker:
            return Claim("finished", name, request_hash, body)
        return Claim("unknown", name, request_hash)  # gone meanwhile, or another request: the database knows its fields

    def finished(self, claim: Claim, body: bytes) -> None:
        """Remember the answer. It does not wait for that."""
        value = claim.request_hash.encode() + body
        writing = self._asked(lambda: self._cache.put(claim.name, value, FINISHED_S))
        task: asyncio.Task[object] = asyncio.create_task(writing)
        self._writing[claim.name] = task
        task.add_done_callback(lambda _: self._writing.pop(claim.name, None))

    async def released(self, claim: Claim) -> None:
        """Nothing was stored: the same request may come again at once."""
        if claim.state == "ours":
            await self._asked(lambda: self._cache.delete(claim.name))

    async def close(self) -> None:
        """Until the last answers are remembered or given up; each has its timeout."""
        await asyncio.gather(*self._writing.values())

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """The cache's answer; None when it is away."""
        now_s = self._clock.monotonic_s()
        if now_s < self._away_until_s:
            KEYS_WITHOUT_CACHE.inc()
            return None
        probing = self._away_until_s > 0
        if probing:
            self._away_until_s = now_s + self._pause_s  # one request finds out whether it is back
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await question()
        except (CacheDown, TimeoutError) as error:
            if self._away_until_s == 0.0:
                log.warning("idempotency_without_cache", error=repr(error))
            self._away_until_s = self._clock.monotonic_s() + self._pause_s
            KEYS_WITHOUT_CACHE.inc()
            return None
        self._away_until_s = 0.0
        return answer
