"""Latest quotes and the price stream over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of, symbols_of
from price_service.live.followers import Followers
from price_service.live.hub import Hub
from price_service.live.sse import price_stream

JSON = "application/json"


class Live:
    """`stop` ends the streams when the process does."""

    def __init__(self, hub: Hub, symbols_max: int, stop: asyncio.Event) -> None:
        self._hub = hub
        self._symbols_max = symbols_max
        self._stop = stop

    @property
    def followers(self) -> Followers:
        return self._hub.followers

    def quote(self, symbol: str) -> Response:
        """The latest quote of one symbol."""
        return Response(self._hub.quotes[self._known([symbol_of(symbol, "symbol")], "symbol")[0]], media_type=JSON)

    def quotes(self, symbols: str | None) -> Response:
        """The latest quotes of these symbols in the order asked for, or of all in alphabetical order."""
        quotes = self._hub.quotes
        if symbols is None:
            wanted = sorted(quotes) if self._ready() else []
        else:
            wanted = self._known(symbols_of(symbols, "symbols", self._symbols_max), "symbols")
        return Response(b'{"quotes":[' + b",".join([quotes[s] for s in wanted]) + b"]}", media_type=JSON)

    def stream(self, symbols: str | None) -> Response:
        wanted = self._known(symbols_of(symbols or "", "symbols", self._symbols_max), "symbols")
        return price_stream(self._hub.followers, wanted, self._stop)

    def _known(self, symbols: list[str], field: str) -> list[str]:
        for symbol in symbols:
            if symbol not in self._hub.quotes and self._ready():
                raise refusal(reasons.SYMBOL_UNKNOWN, field, symbol=symbol)
        return symbols

    def _ready(self) -> bool:
        """Before the hub is ready, what it does not know may exist all the same."""
        if not self._hub.ready():
            raise refusal(reasons.PRICES_NOT_READY, retry_after_s=1)
        return True


def routes(live: Live, dependencies: list[Any]) -> APIRouter:
    router = APIRouter(tags=["prices"], dependencies=dependencies)

    @router.get(
        "/stockPrices/stream",
        summary="Follow quotes as server-sent events: the current ones first, then every change, conflated.",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def stream(
        symbols: Annotated[str | None, Query(description="Symbols to follow, separated by commas.")] = None,
    ) -> Response:
        return live.stream(symbols)

    return router
