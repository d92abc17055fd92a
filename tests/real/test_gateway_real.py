"""Two gateways share the commands on Kafka, and one of them dies: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from exchange_gateway.app import Adapters, assemble
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import CancelRequest
from infra.bus_kafka import KafkaBus, KafkaProducer
from infra.clock import Ids, SystemClock
from infra.contracts import ORDERS, Command, cl_ord_id, encode
from infra.db import MemoryCheckpoints
from infra.dlq.letters_memory import MemoryLetters
from infra.outbox import record_headers
from infra.process import Service
from infra.settings import Infra
from tests.flow.gateway_house import FrameList, settings_of
from tests.flow.walking import eventually
from tests.unit.exchange_gateway.words import command

MANY = 400


class Venue(MemoryVenue):
    """The twin, which takes a moment to cancel, so that commands are under way when a gateway dies."""

    async def cancel(self, request: CancelRequest) -> Answer:
        await asyncio.sleep(0.02)
        return await super().cancel(request)

    async def ended(self) -> int:
        return sum(order.order_status == "CANCELED" for order in (await self.orders(0, 10_000)).orders)


def gateway(bus: KafkaBus, producer: KafkaProducer, venue: Venue) -> Service:
    clock = SystemClock()
    outside = Adapters(
        bus=bus,
        status_producer=producer,
        price_producer=producer,
        venue=venue,
        books=venue,
        feed=FrameList(),
        drop_copy=venue,
        checkpoints=MemoryCheckpoints(),
        clock=clock,
        ids=Ids(clock, seed=1),
        parked=MemoryLetters(clock),
    )
    return assemble(settings_of(), outside)


@pytest.mark.real
@pytest.mark.timeout(180)
async def test_a_gateway_that_joins_and_one_that_dies_change_nothing_at_the_venue(servers: Infra) -> None:
    bus = KafkaBus(servers.bootstrap, "test")
    venue = Venue(SystemClock(), {"AAPL": (99_000_000, 101_000_000)})
    producers = [bus.producer(), bus.producer()]
    orders = [str(uuid4()) for _ in range(MANY)]
    stop = asyncio.Event()
    first = [asyncio.ensure_future(part(stop)) for part in gateway(bus, producers[0], venue).parts.values()]
    await send(bus, orders[:200])
    await eventually("the first one is at work", lambda: reached(venue, 50), 60)
    second = [asyncio.ensure_future(part(stop)) for part in gateway(bus, producers[1], venue).parts.values()]
    await send(bus, orders[200:])
    await eventually("both are at work", lambda: reached(venue, 150), 60)
    for part in first:
        part.cancel()
    await asyncio.wait(first)
    await eventually("every order is there and canceled", lambda: reached(venue, MANY), 90)
    stop.set()
    await asyncio.gather(*second)
    for producer in producers:
        await producer.close()
    for order_id in orders:
        told = (await venue.query(cl_ord_id(order_id, 1))).reports
        assert [report.exec_type for report in told] == ["NEW", "CANCELED"], "each once, a cancel after its submit"


async def reached(venue: Venue, count: int) -> bool:
    return await venue.ended() >= count


async def send(bus: KafkaBus, orders: list[str]) -> None:
    producer = bus.producer()
    sent = []
    for order_id in orders:
        submit = command(event_id=f"{order_id}-s", order_id=order_id, cl_ord_id=cl_ord_id(order_id, 1))
        cancel = command(
            kind="cancel",
            event_id=f"{order_id}-c",
            order_id=order_id,
            cl_ord_id=cl_ord_id(order_id, 2),
            orig_cl_ord_id=cl_ord_id(order_id, 1),
        )
        sent += [producer.send(ORDERS, order_id.encode(), encode(each), headers(each)) for each in (submit, cancel)]
    await asyncio.gather(*sent)
    await producer.close()


def headers(each: Command) -> tuple[tuple[str, bytes], ...]:
    return record_headers(each.event_id, each.event_id, "")
