"""Everything with which clients follow prices, as the doors of this process offer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from infra.process import Part
from price_service.live import book_routes, change_routes, stream_routes, ws_routes
from price_service.live.books import Books
from price_service.live.elsewhere import AllStreams
from price_service.live.every_streams import EveryStreams
from price_service.live.open_streams import OpenStreams
from price_service.live.stream_routes import Streams
from price_service.live.traded import Traded
from price_service.live.ws_routes import Sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    traded: Traded
    open: OpenStreams
    streams: Streams
    every: EveryStreams
    everywhere: AllStreams
    books: Books
    book_streams: Streams
    sockets: Sockets
    symbols_max: int

    @property
    def parts(self) -> Mapping[str, Part]:
        return {
            "price_streams": self.streams.run,
            "price_stream_changes": self.everywhere.run,
            "price_books": self.books.run,
            "price_book_streams": self.book_streams.run,
        }

    def routers(self, principal: Callable[..., Any]) -> list[APIRouter]:
        return [
            stream_routes.routes(self.streams, principal, self.every),
            change_routes.routes(self.everywhere, self.traded.known, self.symbols_max, principal),
            book_routes.routes(self.books, self.book_streams, self.traded, principal),
            ws_routes.routes(self.sockets, principal),
        ]
