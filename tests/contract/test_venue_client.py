"""What the gateway may rely on at the venue (docs/venue-api.md): the twin in memory and the real adapter over the
simulator pass the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from exchange_gateway.feed.feed_ws import WsFeedSource
from exchange_gateway.orders.venue_http import HttpVenue, venue_transport
from exchange_gateway.orders.venue_memory import MemoryVenue
from exchange_gateway.orders.wire import CancelRequest, ReplaceRequest
from exchange_gateway.reports.drop_copy_ws import WsDropCopySource
from exchange_gateway.stream import OPEN, NeverReached
from exchange_gateway.venue import ExecutionsPage, OrdersPage, VenueAway, VenueOrder, VenueReport
from infra.clock import ManualClock, SystemClock
from infra.contracts import decode
from tests.contract.venue_market import Market, kinds, new_id, reason
from tests.unit.exchange_gateway.simulated import API_KEY, Simulator, first_quote, free_port, simulator


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

    async def test_a_batch_is_answered_order_by_order(self, market: Market) -> None:
        rests, broken, fills, odd = (
            market.order(),
            market.order(limit_micros=None),
            market.order(limit_micros=market.away(1.5)),
            market.order(symbol="NO.SUCH"),
        )
        again = market.order(cl_ord_id=rests.cl_ord_id)
        answers = await market.venue.submit_batch([rests, broken, fills, again, odd])
        assert [a.outcome for a in answers] == ["accepted", "refused", "accepted", "duplicate", "accepted"]
        assert kinds(answers[0]) == ["NEW"]
        assert answers[2].reports[-1].order_status == "FILLED"
        assert (kinds(answers[4]), reason(answers[4])) == (["REJECTED"], "unknown_symbol")
        for order, answer in ((rests, answers[0]), (fills, answers[2])):
            assert (await market.venue.query(order.cl_ord_id)).reports == answer.reports

    async def test_what_a_replace_leaves_out_stays(self, market: Market) -> None:
        order = market.order()
        await market.venue.submit(order)
        change = ReplaceRequest(orig_cl_ord_id=order.cl_ord_id, cl_ord_id=new_id(), quantity=7, limit_micros=None)
        report = (await market.venue.replace(change)).reports[0]
        assert (report.quantity, report.limit_micros) == (7, order.limit_micros)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"quantity": 0}, "bad_quantity"),
            ({"limit_micros": 0}, "bad_price"),
            ({"limit_micros": 10_001}, "bad_tick"),
        ],
    )
    async def test_a_replace_with_bad_terms_is_rejected_and_changes_nothing(
        self, market: Market, changes: dict[str, Any], code: str
    ) -> None:
        order = market.order()
        await market.venue.submit(order)
        plain: dict[str, Any] = {
            "orig_cl_ord_id": order.cl_ord_id,
            "cl_ord_id": new_id(),
            "quantity": 5,
            "limit_micros": None,
        }
        answer = await market.venue.replace(ReplaceRequest(**plain | changes))
        assert (kinds(answer), reason(answer)) == (["cancel_reject"], code)
        found = (await market.venue.query(order.cl_ord_id)).order
        assert found
        assert (found.quantity, found.limit_micros, found.cl_ord_id) == (2, order.limit_micros, order.cl_ord_id)

    async def test_a_replace_that_crosses_is_filled(self, market: Market) -> None:
        order = market.order()
        await market.venue.submit(order)
        change = ReplaceRequest(
            orig_cl_ord_id=order.cl_ord_id, cl_ord_id=new_id(), quantity=2, limit_micros=market.away(1.5)
        )
        answer = await market.venue.replace(change)
        assert kinds(answer)[0] == "REPLACED"
        assert answer.reports[-1].order_status == "FILLED"
        assert {report.cl_ord_id for report in answer.reports} == {change.cl_ord_id}

    async def test_the_mass_status_is_every_order_page_by_page(self, market: Market) -> None:
        live, filled, second = market.order(), market.order(limit_micros=market.away(1.5)), new_id()
        await market.venue.submit_batch([live, filled])
        change = ReplaceRequest(orig_cl_ord_id=live.cl_ord_id, cl_ord_id=second, quantity=5, limit_micros=None)
        await market.venue.replace(change)
        await market.venue.cancel(CancelRequest(orig_cl_ord_id=second, cl_ord_id=new_id()))
        found: dict[str, VenueOrder] = {}
        after: int | None = 0
        while after is not None:
            page: OrdersPage = await market.books.orders(after, 2)
            assert 0 < len(page.orders) <= 2
            found |= {order.cl_ord_id: order for order in page.orders}
            after = page.next
        assert page.total == len(found)
        for order in (found[second], found[filled.cl_ord_id]):
            assert order == (await market.venue.query(order.cl_ord_id)).order
        assert (found[second].order_status, found[second].quantity, found[second].cum_qty) == ("CANCELED", 5, 0)
        fill = found[filled.cl_ord_id]
        executions = await market.books.executions(0, 1000)
        mine = [report for report in executions.reports if report.cl_ord_id == filled.cl_ord_id]
        assert fill.cum_notional_micros == sum(report.last_qty * report.last_micros for report in mine) > 0

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
            page: ExecutionsPage = await market.books.executions(after, 2)
            assert len(page.reports) <= 2
            found += page.reports
            after = page.next
        assert page.total == len(found)
        assert {report.exec_type for report in found} <= {"TRADE", "TRADE_CANCEL", "TRADE_CORRECT"}
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
        return Market(venue, venue, venue, "AAPL", 100_000_000)

    async def test_a_position_that_the_venue_never_reached(self, market: Market) -> None:
        frames = market.drop_copy.frames(1)
        assert await anext(frames) == OPEN
        with pytest.raises(NeverReached):
            await anext(frames)

    async def test_a_bust_and_a_correction_name_the_fill_and_restate_it(self, market: Market) -> None:
        assert isinstance(market.venue, MemoryVenue)
        order = market.order(limit_micros=market.away(1.5))
        fill = (await market.venue.submit(order)).reports[-1]
        market.venue.correct(fill.exec_id, 1, 90_000_000)
        market.venue.bust(fill.exec_id)
        answer = await market.venue.query(order.cl_ord_id)
        corrected, canceled, busted = answer.reports[2:]
        assert (corrected.exec_type, corrected.exec_ref_id) == ("TRADE_CORRECT", fill.exec_id)
        assert (corrected.last_qty, corrected.last_micros, corrected.cum_qty) == (1, 90_000_000, 1)
        assert (corrected.order_status, canceled.order_status) == ("PARTIALLY_FILLED", "CANCELED")
        assert canceled.reason
        assert canceled.reason.code == "busted"
        assert (busted.exec_type, busted.exec_ref_id, busted.last_qty) == ("TRADE_CANCEL", fill.exec_id, 1)
        assert (busted.order_status, busted.cum_qty) == ("CANCELED", 0)
        assert answer.order
        assert answer.order.cum_notional_micros == 0
        assert (await market.books.executions(0, 10)).total == 3


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
        async with venue_transport(8) as transport:
            venue = HttpVenue(transport, simulated.url, API_KEY, SystemClock())
            drop_copy = WsDropCopySource(simulated.url, API_KEY)
            yield Market(venue, venue, drop_copy, quote.s, (quote.b + quote.a) // 2)

    async def test_a_wrong_key_is_not_the_orders_fault(self, market: Market, simulated: Simulator) -> None:
        async with venue_transport(1) as transport:
            venue = HttpVenue(transport, simulated.url, "wrong", SystemClock())
            assert (await venue.submit(market.order())).outcome == "not_sent"
            assert [a.outcome for a in await venue.submit_batch([market.order()] * 2)] == ["not_sent", "not_sent"]

    async def test_a_position_that_the_venue_never_reached(self, simulated: Simulator) -> None:
        frames = WsDropCopySource(simulated.url, API_KEY).frames(10**9)
        assert await anext(frames) == OPEN
        with pytest.raises(NeverReached):
            await anext(frames)

    async def test_a_venue_that_is_not_there(self, market: Market) -> None:
        async with venue_transport(1) as transport:
            venue = HttpVenue(transport, f"http://127.0.0.1:{free_port()}", API_KEY, SystemClock())
            for answer in (
                await venue.submit(market.order()),
                await venue.query(new_id()),
                await venue.cancel(CancelRequest(orig_cl_ord_id=new_id(), cl_ord_id=new_id())),
                *await venue.submit_batch([market.order()]),
            ):
                assert answer.outcome == "not_sent"
            with pytest.raises(VenueAway):
                await venue.executions(0, 10)
            with pytest.raises(VenueAway):
                await venue.orders(0, 10)


@pytest.mark.parametrize("answer", [(500, b""), (200, b"{"), (200, b"{}"), (204, b"")])
async def test_books_that_cannot_be_read_are_a_venue_away(answer: tuple[int, bytes]) -> None:
    status, body = answer
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    venue = HttpVenue(transport, "http://venue", API_KEY, ManualClock())
    for page in (venue.executions, venue.orders):
        with pytest.raises(VenueAway):
            await page(0, 10)
