"""GET /orders/stream: every change of an account's orders, as server-sent events. The event id is `account_seq`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from infra.principal import Principal
from infra.sse import stream
from infra.telemetry import FRAMES, STREAMS
from order_service.domain import reasons
from order_service.store.ports import OrderStore
from order_service.store.refusals import refuse
from order_service.streams.fanout import Fanout, Follower, event_frame

REPLAY_PAGE = 500
SEQ_DIGITS_MAX = 18


def routes(store: OrderStore, fanout: Fanout, principal: Callable[..., Any], stop: asyncio.Event) -> APIRouter:
    router = APIRouter(tags=["orders"])

    @router.get("/orders/stream", summary="Follow an account's orders (server-sent events)")
    async def follow(
        asker: Principal = Depends(principal),
        since: Annotated[str | None, Query(description="Replay what came after this event id.")] = None,
        account_id: Annotated[str | None, Query(alias="accountId", description="For the back office.")] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Events named `order`, in the account's order, none twice and none left out. Without `Last-Event-ID` or
        `since` they begin now. A client that reads too slowly is disconnected and can resume."""
        account = _account(asker, account_id)
        given = last_event_id or since
        after = None if given is None else _seq(given)
        if not fanout.ready():
            raise refuse(reasons.STREAM_UNAVAILABLE)
        # Followed before the answer begins: what the client causes once it sees the stream open is in it.
        follower = fanout.follow(account)
        return stream(frames(store, fanout, asker, follower, after), stop, lambda: fanout.leave(follower))

    return router


async def frames(
    store: OrderStore, fanout: Fanout, asker: Principal, follower: Follower, after: int | None
) -> AsyncGenerator[bytes, None]:
    """Followed already; replay, then live without what was replayed: no gap and no double. A live event that skips
    numbers (the bus kept less than we missed) has the skipped ones fetched from the store."""
    account_id = follower.account_id
    try:
        with STREAMS.labels("orders").track_inprogress():
            last = after
            if last is not None:
                async for seq, data in _stored(store, asker, account_id, last):
                    last = seq
                    yield data
            while (live := await follower.following()) is not None:
                if last is not None and live.seq <= last:
                    continue
                if last is not None and live.seq > last + 1:
                    async for seq, data in _stored(store, asker, account_id, last):
                        last = seq
                        yield data
                if last is None or live.seq > last:
                    last = live.seq
                    FRAMES.labels("orders").inc()
                    yield live.data
    finally:
        fanout.leave(follower)


async def _stored(store: OrderStore, asker: Principal, account_id: int, after: int) -> AsyncIterator[tuple[int, bytes]]:
    while events := await store.events_since(asker, account_id, after, REPLAY_PAGE):
        for event in events:
            after = event.account_seq
            FRAMES.labels("orders").inc()
            yield after, event_frame(after, event.payload).data
        if len(events) < REPLAY_PAGE:
            return


def _account(asker: Principal, given: str | None) -> int:
    if given is None:
        if asker.account_id is None:
            raise refuse(reasons.ACCOUNT_REQUIRED, "accountId")
        return asker.account_id
    number = _number(given, "accountId", "an account's number")
    if not asker.may_see(number):
        raise refuse(reasons.ACCOUNT_UNKNOWN, "accountId", account=number)
    return number


def _seq(given: str) -> int:
    return _number(given, "since", "the id of an event of this stream")


def _number(text: str, name: str, allowed: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= SEQ_DIGITS_MAX):
        raise refuse(reasons.PARAMETER_INVALID, name, name=name, allowed=allowed)
    return int(text)
