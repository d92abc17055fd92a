from __future__ import annotations

import pytest

from exchange_gateway.orders.wire import (
    CancelRequest,
    NewOrder,
    ReplaceRequest,
    Request,
    StatusRequest,
    asked_as,
    request_of,
)
from infra.contracts import Command, Malformed, cl_ord_id
from tests.unit.exchange_gateway.words import cancel, command, order_id

FIRST, SECOND = (cl_ord_id(order_id(), n) for n in (1, 2))
NEW = NewOrder(
    cl_ord_id=FIRST,
    symbol="AAPL",
    side="BUY",
    ord_type="LIMIT",
    tif="DAY",
    quantity=10,
    limit_micros=100_000_000,
)


@pytest.mark.parametrize(
    ("given", "expected", "asked"),
    [
        (command(), NEW, FIRST),
        (command(kind="submit_again"), NEW, FIRST),
        (command(kind="query"), StatusRequest(cl_ord_id=FIRST), FIRST),
        (cancel(), CancelRequest(orig_cl_ord_id=FIRST, cl_ord_id=SECOND), FIRST),
        (
            command(request=2, kind="replace", orig_cl_ord_id=FIRST, quantity=7),
            ReplaceRequest(orig_cl_ord_id=FIRST, cl_ord_id=SECOND, quantity=7, limit_micros=100_000_000),
            FIRST,
        ),
    ],
)
def test_command_to_request(given: Command, expected: Request, asked: str) -> None:
    assert request_of(given) == expected
    assert asked_as(given) == asked


def test_a_market_sell() -> None:
    request = request_of(command(order_type="sell", type="MARKET", limit_micros=None, tif="IOC"))
    assert isinstance(request, NewOrder)
    assert (request.side, request.ord_type, request.limit_micros, request.tif) == ("SELL", "MARKET", None, "IOC")


@pytest.mark.parametrize("kind", ["cancel", "replace"])
def test_a_change_must_name_what_it_changes(kind: str) -> None:
    with pytest.raises(Malformed, match="orig_cl_ord_id"):
        request_of(command(kind=kind))
