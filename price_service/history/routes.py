"""History and search over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from infra.clock import NS_PER_S, Clock
from infra.direct import JSON, NOT_MODIFIED, Answer, Asked, matches
from infra.principal import Principal
from price_service.domain import reasons, trading_days
from price_service.domain.parameters import parameters, shown
from price_service.domain.points import About, Point
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of
from price_service.history import adjust
from price_service.history.answers import Page, search_json
from price_service.history.cursors import RANGE_WORDS, cursor, digest, resumed
from price_service.history.formats import Format, etag_of, format_of
from price_service.history.gate import Gate
from price_service.history.ports import HistoryStore
from price_service.history.ranges import POINTS_MAX, Chosen, asks_the_calendar, choose
from price_service.store.records import StoreAway

# Any of these says that a history is wanted.
WORDS = (*RANGE_WORDS, "cursor", "format")
PARAMETERS = ("symbol", "symbols", *WORDS)
FOUND_MAX, FOUND_DEFAULT = 50, 20
SEARCH_CHARACTERS_MAX = 64
TRADED_S = 30 * 86_400
# A range that ended so long ago changes only when a trade is reported late or corrected.
SETTLED_S = 86_400
_LIVE, _SETTLED, _SEARCHED = "private, no-cache", "private, max-age=300", "private, max-age=30"


class History:
    def __init__(self, store: HistoryStore, clock: Clock, at_once_max: int) -> None:
        self._store = store
        self._gate = Gate(at_once_max)
        self._clock = clock
        self._calendar_loaded = False

    async def of(self, caller: str, asked: Asked) -> Answer:
        """The points of one symbol. Raises Refusal for what cannot be answered."""
        async with self._gate.entered(caller):
            return await self._of(asked)

    async def search(self, caller: str, query: str) -> Answer:
        async with self._gate.entered(caller):
            return await self._search(query)

    async def _of(self, asked: Asked) -> Answer:
        words = parameters(asked.query, PARAMETERS)
        if "symbol" not in words:
            raise refusal(reasons.HISTORY_SYMBOL_MISSING, "symbol")
        symbol = symbol_of(words["symbol"], "symbol")
        wanted = format_of(words.get("format"), asked.headers.get("accept"))
        now_ns = self._clock.now_ns()
        chosen, adjusted, first = await self._asked_for(symbol, words, now_ns)
        try:
            points = await self._store.points(symbol, chosen.page, POINTS_MAX + 1)
            about = await self._store.about(symbol)
        except StoreAway as error:
            raise refusal(reasons.STORE_UNAVAILABLE, retry_after_s=1) from error
        if not points and not about.known:
            raise refusal(reasons.SYMBOL_UNKNOWN, "symbol", symbol=symbol)
        # Thousands of points take tens of milliseconds to write, in which the streams of this process go on.
        page, body = await asyncio.to_thread(_written, symbol, chosen, adjusted, first, points, about, wanted)
        settled = chosen.window.to_ns < now_ns - SETTLED_S * NS_PER_S
        return _answer(page, body, wanted, words, _SETTLED if settled else _LIVE, asked.headers.get("if-none-match"))

    async def _search(self, query: str) -> Answer:
        words = parameters(query, ("q", "limit"))
        wanted = words.get("q", "").strip()
        if not wanted:
            raise refusal(reasons.SEARCH_MISSING, "q")
        if len(wanted) > SEARCH_CHARACTERS_MAX:
            raise refusal(reasons.SEARCH_TOO_LONG, "q", max=SEARCH_CHARACTERS_MAX)
        limit = _limit(words["limit"]) if "limit" in words else FOUND_DEFAULT
        if "\0" in wanted:  # in no name, and no text for the store
            return Answer(200, search_json(wanted, []))
        try:
            found = await self._store.search(wanted, limit, self._clock.now_ns() - TRADED_S * NS_PER_S)
        except StoreAway as error:
            raise refusal(reasons.STORE_UNAVAILABLE, retry_after_s=1) from error
        return Answer(200, search_json(wanted, found), {"Cache-Control": _SEARCHED})

    async def _asked_for(self, symbol: str, words: Mapping[str, str], now_ns: int) -> tuple[Chosen, bool, bytes]:
        """The range and its page, whether adjusted, and the digest of the first page's words."""
        adjusted = words.get("adjusted", "false")
        if adjusted not in ("true", "false"):
            raise refusal(reasons.ADJUSTED_INVALID, "adjusted", value=shown(adjusted))
        if "cursor" in words:
            return resumed(symbol, words)
        if not self._calendar_loaded and asks_the_calendar(words):
            await asyncio.to_thread(trading_days.load)
            self._calendar_loaded = True
        return choose(words, now_ns), adjusted == "true", digest(words)


def _written(
    symbol: str, chosen: Chosen, adjusted: bool, first: bytes, points: list[Point], about: About, wanted: Format
) -> tuple[Page, bytes]:
    """One point more than a page has tells that there are older ones."""
    rest = len(points) > POINTS_MAX
    shown_points = adjust.shown(points[-POINTS_MAX:], about.actions if adjusted else ())
    following = cursor(symbol, chosen, adjusted, first, shown_points[0].time_ns) if rest else None
    page = Page(symbol, chosen, adjusted, shown_points, following, about.synthetic_before_ns)
    return page, wanted.write(page)


def _answer(
    page: Page, body: bytes, wanted: Format, words: Mapping[str, str], caching: str, if_none_match: str | None
) -> Answer:
    etag = etag_of(body)
    headers = {"Cache-Control": caching, "ETag": etag, "Vary": "Accept"}
    if page.following is not None:
        form = f"&format={words['format']}" if "format" in words else ""
        headers["Link"] = f'</stockPrices?symbol={page.symbol}&cursor={page.following}{form}>; rel="next"'
    if if_none_match is not None and matches(if_none_match, etag):
        return Answer(NOT_MODIFIED, b"", headers)
    if wanted.suffix is not None:
        name = f"{page.symbol}-{page.chosen.interval}.{wanted.suffix}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Answer(200, body, headers, wanted.media_type)


def _limit(raw: str) -> int:
    if raw.isascii() and raw.isdigit() and len(raw) <= len(str(FOUND_MAX)) and 1 <= int(raw) <= FOUND_MAX:
        return int(raw)
    raise refusal(reasons.LIMIT_INVALID, "limit", max=FOUND_MAX)


def response(answer: Answer, method: str) -> Response:
    """For the ordinary routes. HEAD gets what GET would, without the content (RFC 9110 §9.3.2)."""
    media_type = None if answer.status == NOT_MODIFIED else answer.media_type
    made = Response(answer.body, answer.status, answer.headers, media_type)
    if method == "HEAD":
        made.body = b""
    return made


def routes(history: History, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["prices"])

    @router.get(
        "/stockPrices/search",
        summary="Find symbols by their beginning, by words of their company's name, or by likeness.",
        response_class=Response,
        responses={200: {"content": {JSON: {}}}},
    )
    async def search(
        request: Request,
        asker: Principal = Depends(principal),
        q: Annotated[str | None, Query(description="The beginning of a symbol or name, or something like it.")] = None,
        limit: Annotated[str | None, Query(description=f"1 to {FOUND_MAX}; {FOUND_DEFAULT} if not sent.")] = None,
    ) -> Response:
        """Exactly this symbol first, then symbols that begin so, then names by their words, then what is only like it;
        of equal rank first what was traded most in the last 30 days."""
        return response(await history.search(asker.subject, request.url.query), request.method)

    router.head("/stockPrices/search", include_in_schema=False)(search)
    return router
