"""The exchange in the same process keeps what the gateway may rely on at any venue, and misbehaves as the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from random import Random

import httpx
import pytest

from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.venue_http import HttpVenue
from exchange_gateway.orders.wire import NewOrder
from exchange_gateway.simulator.chaos import Rule
from exchange_gateway.simulator.inprocess import InProcessVenue
from infra.clock import SystemClock
from infra.contracts import Instrument, encode
from tests.contract.test_venue_client import VenueContract
from tests.contract.venue_market import Market, kinds, new_id
from tests.unit.exchange_gateway.simulated import API_KEY, Simulator, simulator

LISTED = [Instrument("AAPL", "Apple Inc.", 10_000, 1, 1)]


class TestInProcess(VenueContract):
    @pytest.fixture
    async def market(self) -> AsyncIterator[Market]:
        venue = InProcessVenue(LISTED, SystemClock(), asyncio.sleep, Random(1))
        venue.quote("AAPL", 99_990_000, 1_000_000, 100_010_000, 1_000_000)
        yield Market(venue, venue, venue, "AAPL", 100_000_000)
        await venue.close()


STRUCK = [
    Rule(kind="lost_response", count=1),
    Rule(kind="delayed_acceptance", count=1, delay_s=600),
    Rule(kind="server_error_before", count=1, status=500),
    Rule(kind="server_error_after", count=1, status=502),
    Rule(kind="server_error_after", count=1),
    Rule(kind="too_many_requests", count=1, retry_after_s=9),
    Rule(kind="truncated_body", count=1),
    Rule(kind="garbage_body", count=1),
    Rule(kind="reset_mid_body", count=1),
    Rule(kind="slow_drip", count=1, delay_s=0),
]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("venue"), chaos_allowed="yes") as running:
        yield running


@pytest.mark.parametrize("rule", STRUCK, ids=lambda rule: f"{rule.kind}-{rule.status}")
async def test_a_misbehaviour_looks_the_same_in_process_and_over_http(rule: Rule, simulated: Simulator) -> None:
    """The gateway concludes the same from it, of one order and of a batch, and the venue knows the same afterwards."""
    inside = InProcessVenue(LISTED, SystemClock(), asyncio.sleep, Random(1))

    async def inside_misbehaves() -> None:
        inside.chaos.clear()
        inside.chaos.add([rule])

    expected = await _concluded(inside, "AAPL", inside_misbehaves)
    await inside.close()
    client = httpx.AsyncClient(base_url=simulated.url, headers={"authorization": f"Bearer {API_KEY}"}, trust_env=False)
    async with httpx.AsyncHTTPTransport(trust_env=False) as transport, client:

        async def outside_misbehaves() -> None:
            await client.delete("/chaos")
            answer = await client.post("/chaos", content=encode({"rules": [rule]}))
            assert answer.status_code == 200

        outside = HttpVenue(transport, simulated.url, API_KEY, SystemClock())
        symbol = next(iter((await client.get("/market-data/sessions")).json()[-1]["symbols"]))
        assert await _concluded(outside, symbol, outside_misbehaves) == expected


async def _concluded(venue: Venue, symbol: str, misbehave: Callable[[], Awaitable[None]]) -> list[str]:
    await misbehave()
    order = _far(symbol)
    answers = [await venue.submit(order), await venue.query(order.cl_ord_id), await venue.submit(order)]
    await misbehave()
    orders = [_far(symbol), _far(symbol)]
    answers += [*await venue.submit_batch(orders), await venue.query(orders[1].cl_ord_id)]
    return [_said(answer) for answer in answers]


def _far(symbol: str) -> NewOrder:
    """A buy that rests."""
    return NewOrder(
        cl_ord_id=new_id(), symbol=symbol, side="BUY", ord_type="LIMIT", tif="DAY", quantity=1, limit_micros=10_000
    )


def _said(answer: Answer) -> str:
    return f"{answer.outcome} {kinds(answer)} {answer.reason and answer.reason.code} {answer.retry_after_s}"
