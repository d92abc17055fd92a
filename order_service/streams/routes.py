"""GET /orders/stream: every change of an account's orders, as server-sent events. The event id is `account_seq`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Response

from infra.db import TRANSIENT
from infra.expiry import Expiries
from infra.principal import Principal, on_streams
from infra.sse import stream
from infra.telemetry import FRAMES, HEARTBEATS, STREAMS
from order_service.domain import reasons
from order_service.store.ports import OrderStore
from order_service.store.refusals import refuse
from order_service.streams.fanout import Beat, Fanout, Follower, Frame, event_frame
from order_service.streams.heartbeat import LEFT_OUT, Heartbeats

log = structlog.get_logger(__name__)

REPLAY_PAGE = 500
SEQ_DIGITS_MAX = 18


def routes(
    store: OrderStore,
    fanout: Fanout,
    heartbeats: Heartbeats,
    principal: Callable[..., Any],
    stop: asyncio.Event,
    expiries: Expiries,
) -> APIRouter:
    router = APIRouter(tags=["orders"])

    @router.get("/orders/stream", summary="Follow an account's orders (server-sent events)")
    async def follow(
        asker: Principal = Depends(on_streams(principal)),
        since: Annotated[str | None, Query(description="Replay what came after this event id.")] = None,
        account_id: Annotated[str | None, Query(alias="accountId", description="For the back office.")] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Events named `order`, in the account's order, none twice and none left out. Without `Last-Event-ID` or
        `since` they begin now. A client that reads too slowly is disconnected and can resume.

        When the stream opens (after any replay) and then every 15 seconds comes an event `heartbeat`, without an id:
        `{"accountSeq":n,"openOrders":k,"digest":"…"}`. It follows directly on event n; n may be the event that you
        resumed after. The digest is the SHA-256, in hex, of a line `<order id> <version> <status>` and a newline for
        each order of the account that may still trade, sorted by id; an order that is FILLED, CANCELED, REJECTED,
        EXPIRED or FAILED is left out. Make the same of the orders that you hold: if it differs, you missed an event;
        read `GET /orders`, or resume from an earlier one. While the store does not answer, a comment takes its place.
        """
        account = _account(asker, account_id)
        given = last_event_id or since
        after = None if given is None else _seq(given)
        if not fanout.ready():
            raise refuse(reasons.STREAM_UNAVAILABLE)
        # Followed before the answer begins: what the client causes once it sees the stream open is in it.
        follower = fanout.follow(account)
        try:
            beat = await heartbeats.beat(account)
            if after is not None and beat.seq is not None and after > beat.seq:
                # Going on from a number that was never given would keep silent until it is.
                raise refuse(reasons.PARAMETER_INVALID, "since", name="since", allowed=f"at most {beat.seq} now")
        except BaseException:
            fanout.leave(follower)
            raise
        after = beat.seq if given is None else after
        events = frames(store, fanout, asker, follower, after, beat.seq)
        return stream(events, stop, lambda: fanout.leave(follower), expiries, asker.expires_s)

    return router


async def frames(
    store: OrderStore,
    fanout: Fanout,
    asker: Principal,
    follower: Follower,
    after: int | None,
    up_to: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """Followed already; replay, then live without what was replayed: no gap and no double. What was committed after
    event `up_to`, read when it was followed already, comes live, so that a heartbeat of that moment can come first. A
    live event that skips numbers (the bus kept less than we missed) has the skipped ones fetched from the store."""
    sent = _Sent(store, asker, follower.account_id, after)
    try:
        with STREAMS.labels("orders").track_inprogress():
            if after is not None:
                async for data in sent.missed(up_to):
                    yield data
            while (next_one := await follower.following()) is not None:
                following = sent.beat(next_one) if isinstance(next_one, Beat) else sent.live(next_one)
                async for data in following:
                    yield data
    finally:
        fanout.leave(follower)


class _Sent:
    """What one stream was sent: `_last` is the number of the newest event, None while that is not known."""

    def __init__(self, store: OrderStore, asker: Principal, account_id: int, after: int | None) -> None:
        self._store = store
        self._asker = asker
        self._account_id = account_id
        self._last = after

    async def live(self, live: Frame) -> AsyncIterator[bytes]:
        if self._last is not None and live.seq > self._last + 1:
            async for data in self.missed():
                yield data
        if self._last is None or live.seq > self._last:
            self._last = live.seq
            FRAMES.labels("orders").inc()
            yield live.data

    async def beat(self, beat: Beat) -> AsyncIterator[bytes]:
        """Right after the event of its number, or not at all: what is on its way is fetched from the store, and a
        heartbeat that newer events have overtaken is left to the next one."""
        if beat.seq is None or self._last is None:
            HEARTBEATS.labels("unknown").inc()
            yield LEFT_OUT.data
            return
        try:
            if self._last < beat.seq:
                async for data in self.missed(beat.seq):
                    yield data
        except TRANSIENT as error:
            log.warning("heartbeat_left_out", account_id=self._account_id, error=str(error))
        timely = self._last == beat.seq
        HEARTBEATS.labels("sent" if timely else "overtaken").inc()
        if timely:
            yield beat.data

    async def missed(self, up_to: int | None = None) -> AsyncIterator[bytes]:
        """Events after the last one, from the store; newer than `up_to` are left to the live ones."""
        while events := await self._store.events_since(self._asker, self._account_id, self._last or 0, REPLAY_PAGE):
            for event in events:
                if up_to is not None and event.account_seq > up_to:
                    return
                self._last = event.account_seq
                FRAMES.labels("orders").inc()
                yield event_frame(event.account_seq, event.payload).data
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
