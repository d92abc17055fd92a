"""Every order event, to the followers of its account in this process.

One reader of `order-events` per process (its own read, from now on); an event is written once, however many follow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import structlog

from infra.bus import Bus, BusError, Message, Subscription
from infra.clock import wait
from infra.contracts import ORDER_EVENTS
from infra.sse import frame
from order_service.store.order_json import Seen, client_event

log = structlog.get_logger(__name__)
RETRY_S = 1.0
MESSAGES_MAX = 1000
_decoder = msgspec.json.Decoder(Seen)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it goes to clients; its number in its account is the stream's event id."""

    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat: how the account stood after its event `seq`. Without a `seq` it could not be found out, and `data`
    is a comment."""

    seq: int | None
    data: bytes


def event_frame(seq: int, payload: str | bytes) -> Frame:
    return Frame(seq, frame(client_event(payload), event="order", id=str(seq)))


class Follower:
    """One client's queue. When it is full the client is too slow: its stream ends, and it can resume by the last id."""

    def __init__(self, account_id: int, queue_max: int) -> None:
        self.account_id = account_id
        self._queue: deque[Frame | Beat] = deque()
        self._queue_max = queue_max
        self._wake = asyncio.Event()
        self._ended = False

    def offer(self, frame: Frame) -> bool:
        """False when the queue was full, and the stream ends."""
        if len(self._queue) >= self._queue_max:
            self.end()
            return False
        self._queue.append(frame)
        self._wake.set()
        return True

    def beat(self, beat: Beat) -> None:
        """Comes after what is queued. For a client that is slow there is no room for it."""
        if not self._ended and len(self._queue) < self._queue_max:
            self._queue.append(beat)
            self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._queue.clear()
        self._wake.set()

    async def following(self) -> Frame | Beat | None:
        """The next one; None when the stream has to end."""
        while not self._queue and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        return None if self._ended else self._queue.popleft()


class Fanout:
    def __init__(self, bus: Bus, queue_max: int, poll_s: float = 0.5) -> None:
        self._bus = bus
        self._queue_max = queue_max
        self._poll_s = poll_s
        self._followers: dict[int, set[Follower]] = {}
        self._reading = False

    def ready(self) -> bool:
        return self._reading

    def follow(self, account_id: int) -> Follower:
        follower = Follower(account_id, self._queue_max)
        self._followers.setdefault(account_id, set()).add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        followers = self._followers.get(follower.account_id, set())
        followers.discard(follower)
        if not followers:
            self._followers.pop(follower.account_id, None)

    def accounts(self) -> list[int]:
        """Those that are followed."""
        return list(self._followers)

    def beat(self, account_id: int, beat: Beat) -> None:
        for follower in self._followers.get(account_id, ()):
            follower.beat(beat)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Where the reading was interrupted streams end, and clients resume from the store."""
        while not stop.is_set():
            try:
                subscription = await self._bus.read([ORDER_EVENTS], "latest")
                self._reading = True
                await self._read(subscription, stop)
            except BusError as error:
                log.warning("order_events_cannot_be_read", error=str(error))
                await wait(stop, RETRY_S)
            finally:
                self._reading = False
                ended, self._followers = self._followers, {}
                for follower in (one for followers in ended.values() for one in followers):
                    follower.end()

    async def _read(self, subscription: Subscription, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                self.hand_out(await subscription.batch(MESSAGES_MAX, self._poll_s))
        finally:
            await subscription.close()

    def hand_out(self, messages: Iterable[Message]) -> None:
        for message in messages:
            account = (message.key or b"").decode(errors="replace")
            followers = self._followers.get(int(account)) if account.isdecimal() else None
            if not followers or message.value is None:
                continue  # nobody here follows the account: its event is not even looked into
            try:
                seen = _decoder.decode(message.value)
                made = event_frame(seen.account_seq, message.value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.error("order_event_malformed", partition=message.partition, offset=message.offset, error=str(error))
                continue
            for follower in list(followers):
                if not follower.offer(made):
                    self.leave(follower)
