"""PATCH and DELETE /stockPrices/streams/{id}: change what an open stream follows, or end it, without reconnecting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from infra.principal import Principal
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.domain.symbols import symbol_of
from price_service.live.elsewhere import AllStreams
from price_service.live.open_streams import Change

ID_CHARS_MAX = 64
# (symbols, field) → the same symbols; raises Refusal when one of them is not traded.
Known = Callable[[list[str], str], list[str]]
StreamId = Annotated[str, Path(description="From the event `stream` of the stream.", max_length=ID_CHARS_MAX)]
Names = Annotated[list[str], Field(max_length=10_000)]


class StreamChange(BaseModel):
    """`symbols` alone: these and no others. `add` and `remove`: some more, some less."""

    model_config = ConfigDict(extra="forbid", strict=True)

    symbols: Names | None = None
    add: Names | None = None
    remove: Names | None = None


class StreamSymbols(BaseModel):
    id: str
    symbols: list[str]


def routes(streams: AllStreams, known: Known, symbols_max: int, principal: Callable[..., Any]) -> APIRouter:
    router = APIRouter(prefix="/stockPrices/streams", tags=["prices"])

    @router.patch("/{stream_id}", summary="Change the symbols of an open stream")
    async def change(body: StreamChange, stream_id: StreamId, asker: Principal = Depends(principal)) -> StreamSymbols:
        """The stream itself confirms it with an event `stream`, and gives the state of the added symbols."""
        wanted = _change(body, known, symbols_max)
        return StreamSymbols(id=stream_id, symbols=await streams.change(asker, stream_id, wanted))

    @router.delete("/{stream_id}", status_code=204, summary="End an open stream")
    async def end(stream_id: StreamId, asker: Principal = Depends(principal)) -> None:
        """Its last event is `closing`."""
        await streams.end(asker, stream_id)

    return router


def _change(body: StreamChange, known: Known, symbols_max: int) -> Change:
    """What cannot be is refused here, before another process is asked."""
    all_of_them, more_or_less = body.symbols is not None, body.add is not None or body.remove is not None
    if all_of_them == more_or_less:
        raise refusal(reasons.STREAM_CHANGE_INVALID, "symbols")
    symbols = known(_symbols(body.symbols or [], "symbols", symbols_max), "symbols")
    add = known(_symbols(body.add or [], "add", symbols_max), "add")
    remove = _symbols(body.remove or [], "remove", symbols_max)
    return Change(tuple(symbols) if all_of_them else None, tuple(add), tuple(remove))


def _symbols(names: Sequence[str], field: str, symbols_max: int) -> list[str]:
    if len(names) > symbols_max:
        raise refusal(reasons.SYMBOLS_TOO_MANY, field, max=symbols_max)
    return [symbol_of(name, field) for name in names]
