"""GET /stockPrices/{symbol}/book: the top ten levels of a symbol's order book, once or as server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from infra.principal import Principal, on_streams
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of
from price_service.live.books import Books, book_json
from price_service.live.stream_routes import Streams
from price_service.live.traded import Traded

EVENTS = "text/event-stream"
SymbolPath = Annotated[str, Path(max_length=64)]


def routes(books: Books, streams: Streams, traded: Traded, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["prices"])

    @router.get(
        "/stockPrices/{symbol}/book",
        summary="The order book of a symbol; as a stream with Accept: text/event-stream or stream=true.",
        response_class=Response,
        responses={200: {"content": {"application/json": {}, EVENTS: {}}}},
    )
    async def book(
        symbol: SymbolPath,
        asker: Principal = Depends(on_streams(principal)),
        stream: Annotated[bool, Query(description="Follow it.")] = False,
        accept: Annotated[str, Header()] = "",
        last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
    ) -> Response:
        """Each event of the stream is a whole book, the newest. A book that is silent for long has `stale` true; after
        the end of a session there is none, and followers get an empty one."""
        known = traded.known([symbol_of(symbol, "symbol")], "symbol")
        if stream or EVENTS in accept:
            return streams.open(asker, known, last_event_id)
        found = books.table.get(known[0])
        if found is None:
            raise refusal(reasons.BOOK_UNKNOWN, "symbol", symbol=known[0])
        return Response(book_json(found), media_type="application/json", headers={"Cache-Control": "no-store"})

    return router
