"""The HTTP routes of the price service, for the api to mount.

`GET /stockPrices` is one path with three meanings: all quotes, one quote, and, with a timerange, a history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from infra.direct import Answer, Asked, Handler
from infra.principal import Principal
from price_service.domain import reasons
from price_service.domain.parameters import parameters
from price_service.domain.reasons import refusal
from price_service.history import routes as history_routes
from price_service.history.routes import PARAMETERS, WORDS, History, response
from price_service.live.following import Following
from price_service.live.quote_routes import Quotes


def handler(quotes: Quotes, history: History) -> Handler:
    """GET and HEAD /stockPrices as one function, for the ordinary route and for the direct one."""

    async def answered(asker: Principal, asked: Asked) -> Answer:
        words = parameters(asked.query, PARAMETERS)
        if "symbol" in words and "symbols" in words:
            raise refusal(reasons.SYMBOLS_AMBIGUOUS, "symbols")
        if any(name in words for name in WORDS):
            return await history.of(asker.subject, asked)
        return await quotes.answer(asker, words, asked.headers)

    return answered


def routers(quotes: Quotes, following: Following, history: History, principal: Callable[..., Any]) -> list[APIRouter]:
    """Prices are for any valid principal."""
    dependencies = [Depends(principal)]
    answered = handler(quotes, history)
    prices = APIRouter(tags=["prices"], dependencies=dependencies)

    @prices.get(
        "/stockPrices",
        summary="The latest quotes; with symbol the quote of one; with symbol and timerange its history.",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}},
    )
    async def stock_prices(
        request: Request,
        asker: Principal = Depends(principal),
        symbol: Annotated[str | None, Query(description="One symbol.")] = None,
        symbols: Annotated[str | None, Query(description="Several symbols, separated by commas.")] = None,
        timerange: Annotated[str | None, Query(description="1d, 1w, 1m (a month), 3m, 6m, 1y, ytd or max.")] = None,
        from_: Annotated[str | None, Query(alias="from", description="An RFC 3339 time, or a New York date.")] = None,
        to: Annotated[str | None, Query(description="The end (a date: its end); now if not sent.")] = None,
        interval: Annotated[str | None, Query(description="1s (up to an hour), 1m, 5m, 15m, 1h or 1d.")] = None,
        adjusted: Annotated[str | None, Query(description="true: for splits and dividends.")] = None,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
        format_: Annotated[str | None, Query(alias="format", description="json, csv, parquet or arrow.")] = None,
    ) -> Response:
        return response(await answered(asker, Asked(request.url.query, request.headers, b"")), request.method)

    prices.head("/stockPrices", include_in_schema=False)(stock_prices)
    return [prices, history_routes.routes(history, principal), *following.routers(principal)]
