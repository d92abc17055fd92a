"""What the gateway may rely on at the venue (docs/venue-api.md): the twin in memory and the real adapter over the
simulator pass the same tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.orders.outcome import Answer
from exchange_gateway.orders.ports import Venue
from exchange_gateway.orders.venue_http import HttpVenue
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.reports.drop_copy import DropCopySource
from exchange_gateway.reports.drop_copy_ws import WsDropCopySource
from exchange_gateway.stream import OPEN, NeverReached
from exchange_gateway.venue import ExecutionsPage, VenueAway, VenueReport
from infra.clock import SystemClock
from infra.contracts import cl_ord_id, decode
from infra.http_client import http_client
from tests.unit.exchange_gateway.simulated import API_KEY, Simulator, first_quote, free_port, simulator


@dataclass(frozen=True)
class Market:
    """A venue with one symbol that trades near `price_micros`."""

    venue: Venue
    drop_copy: DropCopySource
    symbol: str
    price_micros: int

    def order(self, **changes: Any) -> NewOrder:
        """A buy of 2 that rests, far below the market."""
        plain: dict[str, Any] = {
            "cl_ord_id": new_id(),
            "symbol": self.symbol,
            "side": "BUY",
            "ord_type": "LIMIT",
            "tif": "DAY",
            "quantity": 2,
            "limit_micros": self.away(0.5),
        }
        return NewOrder(**plain | changes)

    def away(self, factor: float) -> int:
        return round(self.price_micros * factor) // 10_000 * 10_000


def new_id() -> str:
    return cl_ord_id(str(uuid4()), 1)


def kinds(answer: Answer) -> list[str | None]:
    return [report.exec_type or report.kind for report in answer.reports]


def reason(answer: Answer) -> str | None:
    last = answer.reports[-1].reason
    return last.code if last else None


class VenueContract:
    async def test_a_far_order_rests(self, market: Market) -> None:
        order = market.order()
        answer = await market.venue.submit(order)
        assert (answer.outcome, kinds(answer)) == ("accepted", ["NEW"])
        report = answer.reports[0]
        assert (report.kind, report.order_status, report.cl_ord_id) == ("execution", "NEW", order.cl_ord_id)
        assert (report.symbol, report.side, report.quantity) == (market.symbol, "BUY", 2)
        assert (report.limit_micros, report.cum_qty, report.leaves_qty) == (order.limit_micros, 0, 2)
        assert (report.venue_seq, bool(report.exchange_order_id), report.reason) == (1, True, None)

    @pytest.mark.parametrize("side", ["BUY", "SELL"])
    async def test_a_crossing_order_is_filled_in_the_answer(self, market: Market, side: str) -> None:
        limit = market.away(1.5 if side == "BUY" else 0.5)
        answer = await market.venue.submit(market.order(side=side, limit_micros=limit))
        assert kinds(answer)[0] == "NEW"
        assert set(kinds(answer)[1:]) == {"TRADE"}
        last = answer.reports[-1]
        assert (last.order_status, last.cum_qty, last.leaves_qty) == ("FILLED", 2, 0)
        assert sum(report.last_qty for report in answer.reports) == 2
        assert all(abs(r.last_micros / market.price_micros - 1) < 0.2 for r in answer.reports[1:])
        assert [report.venue_seq for report in answer.reports] == list(range(1, len(answer.reports) + 1))
        assert len({report.exec_id for report in answer.reports}) == len(answer.reports)

    async def test_a_market_order_is_filled(self, market: Market) -> None:
        answer = await market.venue.submit(market.order(ord_type="MARKET", limit_micros=None, tif="IOC"))
        assert answer.reports[-1].order_status == "FILLED"
        assert answer.reports[0].limit_micros is None

    @pytest.mark.parametrize(("tif", "code"), [("IOC", "ioc_rest"), ("FOK", "fok_unfilled")])
    async def test_what_may_not_rest_is_canceled(self, market: Market, tif: str, code: str) -> None:
        answer = await market.venue.submit(market.order(tif=tif))
        assert (kinds(answer), reason(answer)) == (["NEW", "CANCELED"], code)

    @pytest.mark.parametrize("tif", ["DAY", "GTC"])
    async def test_the_same_id_again_is_a_duplicate(self, market: Market, tif: str) -> None:
        order = market.order()
        await market.venue.submit(order)
        again = market.order(cl_ord_id=order.cl_ord_id, tif=tif, quantity=1)
        answer = await market.venue.submit(again)
        assert (answer.outcome, answer.reports) == ("duplicate", ())
        assert len((await market.venue.query(order.cl_ord_id)).reports) == 1

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"symbol": "NO.SUCH"}, "unknown_symbol"),
            ({"quantity": 0}, "bad_quantity"),
            ({"quantity": 1_000_001}, "bad_quantity"),
            ({"limit_micros": -10_000}, "bad_price"),
            ({"limit_micros": 10_001}, "bad_tick"),
        ],
    )
    async def test_a_business_refusal_is_a_report_and_uses_the_id_up(
        self, market: Market, changes: dict[str, Any], code: str
    ) -> None:
        order = market.order(**changes)
        answer = await market.venue.submit(order)
        assert (answer.outcome, kinds(answer), reason(answer)) == ("accepted", ["REJECTED"], code)
        assert answer.reports[0].order_status == "REJECTED"
        assert (await market.venue.submit(market.order(cl_ord_id=order.cl_ord_id))).outcome == "duplicate"

    async def test_a_malformed_order_is_refused_and_its_id_stays_free(self, market: Market) -> None:
        order = market.order(limit_micros=None)
        answer = await market.venue.submit(order)
        assert answer.outcome == "refused"
        assert answer.reason
        assert answer.reason.code == "malformed"
        assert (await market.venue.submit(market.order(cl_ord_id=order.cl_ord_id))).outcome == "accepted"

    async def test_cancel(self, market: Market) -> None:
        order, request = market.order(), new_id()
        await market.venue.submit(order)
        cancel = CancelRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=request)
        answer = await market.venue.cancel(cancel)
        assert (answer.outcome, kinds(answer)) == ("accepted", ["CANCELED"])
        report = answer.reports[0]
        assert (report.cl_ord_id, report.orig_cl_ord_id, report.leaves_qty) == (request, order.cl_ord_id, 0)
        assert report.venue_seq == 2
        assert (await market.venue.cancel(cancel)).outcome == "duplicate"

    async def test_a_cancel_that_comes_too_late_is_rejected(self, market: Market) -> None:
        order = market.order(limit_micros=market.away(1.5))
        await market.venue.submit(order)
        answer = await market.venue.cancel(CancelRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=new_id()))
        assert (answer.outcome, kinds(answer), reason(answer)) == ("accepted", ["cancel_reject"], "too_late")
        assert answer.reports[0].order_status == "FILLED"

    async def test_a_request_about_an_unknown_order_is_rejected_every_time(self, market: Market) -> None:
        missing, request = new_id(), new_id()
        for _ in range(2):
            answer = await market.venue.cancel(CancelRequest(orig_cl_ord_id=missing, cl_ord_id=request))
            assert (kinds(answer), reason(answer)) == (["cancel_reject"], "unknown_order")
            assert (answer.reports[0].exchange_order_id, answer.reports[0].venue_seq) == (None, 0)
        change = ReplaceRequest(orig_cl_ord_id=missing, cl_ord_id=request, quantity=1, limit_micros=None)
        assert reason(await market.venue.replace(change)) == "unknown_order"

    async def test_replace_and_then_any_id_finds_the_order(self, market: Market) -> None:
        order, second, third = market.order(), new_id(), new_id()
        await market.venue.submit(order)
        change = ReplaceRequest(
            orig_cl_ord_id=order.cl_ord_id, cl_ord_id=second, quantity=5, limit_micros=market.away(0.4)
        )
        answer = await market.venue.replace(change)
        assert (answer.outcome, kinds(answer)) == ("accepted", ["REPLACED"])
        report = answer.reports[0]
        assert (report.cl_ord_id, report.orig_cl_ord_id) == (second, order.cl_ord_id)
        assert (report.quantity, report.leaves_qty, report.limit_micros) == (5, 5, market.away(0.4))
        found = [await market.venue.query(name) for name in (order.cl_ord_id, second)]
        assert found[0] == found[1]
        assert found[0].order
        assert (found[0].order.cl_ord_id, found[0].order.quantity) == (second, 5)
        canceled = await market.venue.cancel(CancelRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=third))
        assert kinds(canceled) == ["CANCELED"]

    async def test_a_replace_that_comes_too_late_is_rejected(self, market: Market) -> None:
        order = market.order(limit_micros=market.away(1.5))
        await market.venue.submit(order)
        change = ReplaceRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=new_id(), quantity=5, limit_micros=None)
        answer = await market.venue.replace(change)
        assert (kinds(answer), reason(answer)) == (["cancel_reject"], "too_late")

    async def test_a_query_tells_all_that_was_answered(self, market: Market) -> None:
        order, request = market.order(), new_id()
        told = list((await market.venue.submit(order)).reports)
        told += (await market.venue.cancel(CancelRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=request))).reports
        for name in (order.cl_ord_id, request):
            answer = await market.venue.query(name)
            assert answer.outcome == "accepted"
            assert list(answer.reports) == told
            assert answer.order
            assert (answer.order.order_status, answer.order.venue_seq) == ("CANCELED", 2)

    async def test_an_order_that_was_never_there_is_not_found(self, market: Market) -> None:
        answer = await market.venue.query(new_id())
        assert (answer.outcome, answer.reports, answer.order) == ("not_found", (), None)

    async def test_executions_are_all_fills_page_by_page(self, market: Market) -> None:
        mine = set()
        for _ in range(3):
            answer = await market.venue.submit(market.order(limit_micros=market.away(1.5)))
            mine |= {report.exec_id for report in answer.reports if report.exec_type == "TRADE"}
        found: list[VenueReport] = []
        after: int | None = 0
        while after is not None:
            page: ExecutionsPage = await market.venue.executions(after, 2)
            assert len(page.reports) <= 2
            found += page.reports
            after = page.next
        assert page.total == len(found)
        assert {report.exec_type for report in found} == {"TRADE"}
        assert mine <= {report.exec_id for report in found}

    async def test_the_drop_copy_repeats_every_report_in_numbers_without_holes(self, market: Market) -> None:
        order, request = market.order(), new_id()
        told = list((await market.venue.submit(order)).reports)
        told += (await market.venue.cancel(CancelRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=request))).reports
        seen: list[VenueReport] = []
        numbers = []
        frames = market.drop_copy.frames(0)
        assert await anext(frames) == OPEN
        async for frame in frames:
            content: dict[str, Any] = decode(dict[str, Any], frame)
            numbers.append(content["n"])
            report: VenueReport = decode(_Report, frame).report
            if UUID(report.cl_ord_id[:32]) in (UUID(order.cl_ord_id[:32]), UUID(request[:32])):
                seen.append(report)
            if len(seen) == len(told):
                break
        await frames.aclose()  # type: ignore[attr-defined]
        assert seen == told
        assert numbers == list(range(1, len(numbers) + 1))
        again = market.drop_copy.frames(numbers[-1] - 1)
        assert await anext(again) == OPEN
        assert decode(dict[str, Any], await anext(again))["n"] == numbers[-1]
        await again.aclose()  # type: ignore[attr-defined]


class _Report(msgspec.Struct):
    report: VenueReport


class TestTwin(VenueContract):
    @pytest.fixture
    def market(self) -> Market:
        venue = MemoryVenue(SystemClock(), {"AAPL": (99_000_000, 101_000_000)})
        return Market(venue, venue, "AAPL", 100_000_000)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("venue")) as running:
        yield running


class TestOverHttp(VenueContract):
    @pytest.fixture
    async def market(self, simulated: Simulator) -> AsyncIterator[Market]:
        frames = WsFeedSource(simulated.url, API_KEY).frames(None, None)
        quote = await first_quote(frames)
        await frames.aclose()  # type: ignore[attr-defined]
        async with http_client(simulated.url, API_KEY) as client:
            drop_copy = WsDropCopySource(simulated.url, API_KEY)
            yield Market(HttpVenue(client), drop_copy, quote.s, (quote.b + quote.a) // 2)

    async def test_a_wrong_key_is_not_the_orders_fault(self, market: Market, simulated: Simulator) -> None:
        async with http_client(simulated.url, "wrong") as client:
            assert (await HttpVenue(client).submit(market.order())).outcome == "not_sent"

    async def test_a_position_that_the_venue_never_reached(self, simulated: Simulator) -> None:
        frames = WsDropCopySource(simulated.url, API_KEY).frames(10**9)
        assert await anext(frames) == OPEN
        with pytest.raises(NeverReached):
            await anext(frames)

    async def test_a_venue_that_is_not_there(self, market: Market) -> None:
        async with http_client(f"http://127.0.0.1:{free_port()}", API_KEY) as client:
            venue = HttpVenue(client)
            for answer in (
                await venue.submit(market.order()),
                await venue.query(new_id()),
                await venue.cancel(CancelRequest(orig_cl_ord_id=new_id(), cl_ord_id=new_id())),
            ):
                assert answer.outcome == "not_sent"
            with pytest.raises(VenueAway):
                await venue.executions(0, 10)


@pytest.mark.parametrize("broken", ["executions 500", "executions garbage"])
async def test_executions_that_cannot_be_read_are_a_venue_away(broken: str) -> None:
    status, body = (500, b"") if broken.endswith("500") else (200, b"{")
    answers = itertools.repeat(httpx.Response(status, content=body))
    transport = httpx.MockTransport(lambda _: next(answers))
    async with httpx.AsyncClient(base_url="http://venue", transport=transport) as client:
        with pytest.raises(VenueAway):
            await HttpVenue(client).executions(0, 10)
