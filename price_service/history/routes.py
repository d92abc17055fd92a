"""History and search over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from infra.clock import Clock
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of
from price_service.history.answers import history_json, search_json
from price_service.history.ports import HistoryStore
from price_service.history.ranges import POINTS_MAX, choose
from price_service.store.records import StoreAway

JSON = "application/json"
FOUND_MAX = 20
SEARCH_CHARACTERS_MAX = 64


class History:
    def __init__(self, store: HistoryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def of(self, symbol: str | None, timerange: str | None, interval: str | None) -> Response:
        """The points of one symbol. Raises Refusal for what cannot be answered."""
        if timerange is None:
            raise refusal(reasons.TIMERANGE_MISSING, "timerange")
        if symbol is None:
            raise refusal(reasons.HISTORY_SYMBOL_MISSING, "symbol")
        name = symbol_of(symbol, "symbol")
        chosen = choose(timerange, interval, self._clock.now_ns())
        try:
            points = await self._store.points(name, chosen.window, POINTS_MAX + 1)
            if not points and not await self._store.known(name):
                raise refusal(reasons.SYMBOL_UNKNOWN, "symbol", symbol=name)
        except StoreAway as error:
            raise refusal(reasons.STORE_UNAVAILABLE, retry_after_s=1) from error
        truncated = len(points) > POINTS_MAX
        return Response(history_json(name, chosen, points[-POINTS_MAX:], truncated), media_type=JSON)

    async def search(self, query: str | None) -> Response:
        wanted = (query or "").strip()
        if not wanted:
            raise refusal(reasons.SEARCH_MISSING, "q")
        if len(wanted) > SEARCH_CHARACTERS_MAX:
            raise refusal(reasons.SEARCH_TOO_LONG, "q", max=SEARCH_CHARACTERS_MAX)
        if "\0" in wanted:
            return Response(search_json(wanted, []), media_type=JSON)
        try:
            found = await self._store.search(wanted, FOUND_MAX)
        except StoreAway as error:
            raise refusal(reasons.STORE_UNAVAILABLE, retry_after_s=1) from error
        return Response(search_json(wanted, found), media_type=JSON)


def routes(history: History, dependencies: list[Any]) -> APIRouter:
    router = APIRouter(tags=["prices"], dependencies=dependencies)

    @router.get("/stockPrices/search", summary="Find symbols by their beginning, then by their company's name.")
    async def search(
        q: Annotated[str | None, Query(description="The beginning of a symbol, or a part of a name.")] = None,
    ) -> Response:
        return await history.search(q)

    return router
