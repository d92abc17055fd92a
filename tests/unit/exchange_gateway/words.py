"""Commands and reports to start a test from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from exchange_gateway.venue import VenueReport
from infra.bus import Bus, Message
from infra.clock import NS_PER_S
from infra.contracts import ORDERS, TRACEPARENT, Command, cl_ord_id, encode
from infra.outbox import record_headers

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# Long after the start of any session here: a DAY order is not sent into a session that began after it was asked for.
REQUESTED_NS = 2_000_000_000 * NS_PER_S


def order_id(number: int = 1) -> str:
    return str(UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number))


def command(number: int = 1, request: int = 1, **changes: Any) -> Command:
    """A LIMIT buy of order `number`, its `request`-th at the venue."""
    plain = Command(
        kind="submit",
        event_id=f"event-{number}-{request}",
        order_id=order_id(number),
        account_id=1,
        cl_ord_id=cl_ord_id(order_id(number), request),
        symbol="AAPL",
        order_type="buy",
        type="LIMIT",
        tif="DAY",
        quantity=10,
        limit_micros=100_000_000,
        idempotency_key=f"key-{number}",
        requested_ns=REQUESTED_NS,
    )
    return msgspec.structs.replace(plain, **changes)


def cancel(number: int = 1, request: int = 2, of: int = 1) -> Command:
    return command(number, request, kind="cancel", orig_cl_ord_id=cl_ord_id(order_id(number), of))


def message(value: Command | bytes, offset: int = 0, key: bytes = b"key", *headers: tuple[str, bytes]) -> Message:
    data = value if isinstance(value, bytes) else encode(value)
    return Message(ORDERS, 0, offset, key, data, ((TRACEPARENT, TRACE.encode()), *headers), 0)


def venue_report(**changes: Any) -> VenueReport:
    plain = VenueReport(
        kind="execution",
        exec_id="1700000000-1",
        exec_type="TRADE",
        order_status="PARTIALLY_FILLED",
        cl_ord_id=cl_ord_id(order_id(), 1),
        exchange_order_id="X1",
        symbol="AAPL",
        side="BUY",
        quantity=10,
        limit_micros=100_000_000,
        last_qty=4,
        last_micros=99_990_000,
        cum_qty=4,
        leaves_qty=6,
        venue_seq=2,
        transact_ns=1_700_000_000_000_000_001,
        session=1_700_000_000,
    )
    return msgspec.structs.replace(plain, **changes)


async def publish(bus: Bus, value: Command | bytes, key: str = "") -> None:
    if isinstance(value, Command):
        headers = record_headers(value.event_id, value.idempotency_key or "", TRACE)
        await bus.producer().send(ORDERS, value.order_id.encode(), encode(value), headers)
    else:
        await bus.producer().send(ORDERS, key.encode(), value, record_headers("e", "k", TRACE))


async def read_all(bus: Bus, topic: str) -> list[Message]:
    """Everything on a topic of the memory bus now."""
    subscription = await bus.read([topic], "earliest")
    found: list[Message] = []
    while batch := await subscription.batch(1000, 0.001):
        found += batch
    return found


async def until(check: Callable[[], Any], seconds: float = 5.0) -> None:
    """Let the others run until `check` is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.001)
