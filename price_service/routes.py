"""The HTTP routes of the price service, for the api to mount.

`GET /stockPrices` is one path with three meanings: all quotes, one quote, and, with a timerange, a history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.history import routes as history_routes
from price_service.history.routes import History
from price_service.live import routes as live_routes
from price_service.live.routes import Live


def routers(live: Live, history: History, principal: Callable[..., Any]) -> list[APIRouter]:
    """Prices are for any valid principal."""
    dependencies = [Depends(principal)]
    prices = APIRouter(tags=["prices"], dependencies=dependencies)

    @prices.get(
        "/stockPrices",
        summary="The latest quotes; with symbol the quote of one; with symbol and timerange its history.",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}},
    )
    async def stock_prices(
        symbol: Annotated[str | None, Query(description="One symbol.")] = None,
        symbols: Annotated[str | None, Query(description="Several symbols, separated by commas.")] = None,
        timerange: Annotated[str | None, Query(description="1d, 1w, 1m (a month), 3m, 6m, 1y, ytd or max.")] = None,
        interval: Annotated[str | None, Query(description="1m (a minute), 5m, 15m, 1h or 1d.")] = None,
    ) -> Response:
        if symbol is not None and symbols is not None:
            raise refusal(reasons.SYMBOLS_AMBIGUOUS, "symbols")
        if timerange is not None or interval is not None:
            return await history.of(symbol, timerange, interval)
        return live.quotes(symbols) if symbol is None else live.quote(symbol)

    return [prices, history_routes.routes(history, dependencies), live_routes.routes(live, dependencies)]
