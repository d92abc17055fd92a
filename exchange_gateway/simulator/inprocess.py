"""The exchange in the same process as its client: the same desk, rules and misbehaviour without sockets or real time.

For simulations on a virtual clock. It speaks the venue's bytes and hands them to the gateway's own decision
(`outcome.decide`), so that a client concludes from every misbehaviour what it would conclude over HTTP. With the same
seed, the same requests at the same times end the same way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from random import Random

import msgspec

from exchange_gateway.orders.outcome import Answer, Reach, decide, decide_batch
from exchange_gateway.orders.wire import CancelRequest, NewOrder, ReplaceRequest
from exchange_gateway.simulator.answers import batch_answer, error_answer, reports_answer
from exchange_gateway.simulator.chaos import Chaos, Operation, Rule
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import AheadOfVenue, DropCopy
from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.inprocess_mail import Hook, Mail, Sleep, Tasks
from exchange_gateway.simulator.journal_memory import MemoryJournal
from exchange_gateway.simulator.journal_reader import Recorded
from exchange_gateway.simulator.market_answers import newest_answer, resend_answer
from exchange_gateway.simulator.messages import Cancel, Replace, VenueError
from exchange_gateway.simulator.messages import NewOrder as Terms
from exchange_gateway.simulator.replay import next_session
from exchange_gateway.simulator.struck import GARBAGE, NOTHING_RECORDED, TOO_MANY, Work, done, page
from exchange_gateway.simulator.trouble import Levers, Trouble, through
from exchange_gateway.simulator.venue import Venue
from exchange_gateway.stream import OPEN, NeverReached, SourceLost
from exchange_gateway.venue import ExecutionsPage, NewestTicks, OrdersPage, ResentTicks, VenueAway
from infra.clock import Clock
from infra.contracts import Instrument, decode

ANSWER_S_MAX = 5.0  # as long as the gateway waits for a whole answer
FRAMES_PER_TURN = 64


class InProcessVenue:
    """The gateway's Venue, VenueBooks and DropCopySource. The market opens at once, and again after a restart.

    `sleep` waits on the virtual clock; a request takes up to `latency_s_max` each way. `webhook` takes a report as JSON
    and says whether it was taken (2xx); without it none are sent.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        clock: Clock,
        sleep: Sleep,
        random: Random,
        *,
        webhook: Hook | None = None,
        latency_s_max: float = 0.0,
    ) -> None:
        self.chaos = Chaos(random, clock)
        self.is_down = False
        self._instruments = list(instruments)
        self._clock = clock
        self._sleep = sleep
        self._latency_s_max = latency_s_max
        self._journal = MemoryJournal()
        self._quotes: dict[str, tuple[int, int, int, int]] = {}
        self._life = 0
        self._connections = 0  # rises when all connections are cut
        self._tasks = Tasks()
        self._mail = Mail(webhook, sleep) if webhook is not None else None
        self._begin(Venue(), DropCopy())

    # -- the market, for whoever drives the simulation -----------------------------------------------------------------

    def quote(self, symbol: str, bid: int, bid_size: int, ask: int, ask_size: int) -> None:
        """The market maker's new quote, prices in micros. It stands again after a restart."""
        self._quotes[symbol] = (bid, bid_size, ask, ask_size)
        if not self.is_down:
            now_ns = self._clock.now_ns()
            made = self.desk.venue.quote(symbol, bid, bid_size, ask, ask_size, now_ns)
            if made:
                self.desk.market(made, now_ns)

    def next_session(self) -> None:
        """Close the session (DAY orders expire) and open the next one."""
        self.desk.close(self._clock.now_ns())
        self._open()

    def crash(self) -> None:
        """As SIGKILL: what is on its way, in both directions, is lost; the journal stays."""
        self._life += 1
        self.is_down = True
        self.disconnect()
        if self._mail is not None:
            self._mail.lose()

    def restart(self, with_memory: bool) -> None:
        """Come back after a crash. A venue without memory knows no order; its session number never comes again."""
        assert self.is_down
        venue, drop_copy = Venue(), DropCopy()
        if not with_memory:
            self._journal.move_aside(self.desk.venue.session)
        self._journal.restore(venue, drop_copy)
        self.is_down = False
        self._begin(venue, drop_copy)

    def disconnect(self) -> None:
        """Cut all connections."""
        self._connections += 1
        self.desk.drop_copy.wake()

    def read_all(self) -> Iterator[Recorded]:
        """What really happened, in all lives of the venue."""
        return self._journal.read_all()

    async def close(self) -> None:
        """End what still waits. Raises what went wrong beside the requests, in a webhook for example."""
        await self._tasks.end()
        if self._mail is not None:
            await self._mail.end()

    # -- Venue ---------------------------------------------------------------------------------------------------------

    async def submit(self, order: NewOrder) -> Answer:
        def work() -> bytes:
            answer = self.desk.submit([_terms(order)])[0]
            if isinstance(answer, VenueError):
                raise answer
            return reports_answer(answer)

        return decide(*await self._exchange("submit", [order.symbol], work))

    async def submit_batch(self, orders: Sequence[NewOrder]) -> list[Answer]:
        def work() -> bytes:
            return batch_answer(self.desk.submit([_terms(order) for order in orders]))

        symbols = [order.symbol for order in orders]
        reach, status, body, text, retry_after_s = await self._exchange("batch", symbols, work)
        if reach is not Reach.ANSWERED:
            return [decide(reach, text=text)] * len(orders)
        answers = decide_batch(len(orders), status, body, retry_after_s)
        return [await self.submit(order) for order in orders] if answers is None else answers

    async def cancel(self, request: CancelRequest) -> Answer:
        orig, asked = request.orig_cl_ord_id, Cancel(cl_ord_id=request.cl_ord_id)
        return await self._about("cancel", orig, lambda: reports_answer(self.desk.cancel(orig, asked)))

    async def replace(self, request: ReplaceRequest) -> Answer:
        orig = request.orig_cl_ord_id
        asked = Replace(cl_ord_id=request.cl_ord_id, quantity=request.quantity, limit_micros=request.limit_micros)
        return await self._about("replace", orig, lambda: reports_answer(self.desk.replace(orig, asked)))

    async def query(self, cl_ord_id: str) -> Answer:
        return await self._about("query", cl_ord_id, lambda: self.desk.venue.told_of(cl_ord_id))

    # -- VenueBooks ----------------------------------------------------------------------------------------------------

    async def orders(self, after: int, limit: int) -> OrdersPage:
        return decode(OrdersPage, await self._page(lambda: self.desk.venue.orders_answer(after, limit)))

    async def executions(self, after: int, limit: int) -> ExecutionsPage:
        return decode(ExecutionsPage, await self._page(lambda: self.desk.venue.executions_answer(after, limit)))

    # -- DropCopySource ------------------------------------------------------------------------------------------------

    async def frames(self, after: int) -> AsyncIterator[bytes]:
        if self.is_down:
            raise SourceLost("connection refused")
        connection, copy, is_first = self._connections, self.desk.drop_copy, True
        yield OPEN
        try:
            copy.check(after)
        except AheadOfVenue as error:
            raise NeverReached(str(error)) from error
        while connection == self._connections:
            after, frames = copy.read(after, FRAMES_PER_TURN)
            if not frames:
                await copy.changed()
                continue
            sent, holds = through(self.chaos, frames, is_first)
            is_first = False
            for frame in sent:
                yield frame.encode()
            if not holds:
                break
        raise SourceLost("connection cut")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _begin(self, venue: Venue, drop_copy: DropCopy) -> None:
        self.desk = Desk(venue, drop_copy, self._journal, _nobody, self._clock)
        levers = Levers(self.desk.halt, self.desk.resume, self.disconnect, self._forget)
        trouble = Trouble(self.chaos, self.desk, levers, self._later, self._mail or _nobody)
        self._trouble, self.desk.notify = trouble, trouble.recorded
        self.desk.end_broken_session(self._clock.now_ns())
        self._open()

    def _open(self) -> None:
        now_ns = self._clock.now_ns()
        session = next_session(self.desk.venue.session, now_ns)
        self.desk.assign_session(session, now_ns)
        listed: Mapping[str, Instrument] = {
            one.symbol: msgspec.structs.replace(one, session=session) for one in self._instruments
        }
        self.desk.open(listed, now_ns)
        for symbol, sides in self._quotes.items():
            self.quote(symbol, *sides)

    def _forget(self, seconds: float) -> None:
        self.crash()
        self._tasks.start(self._come_back(seconds))

    async def _come_back(self, seconds: float) -> None:
        await self._sleep(seconds)
        if self.is_down:
            self.restart(with_memory=False)

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        life = self._life

        async def wait() -> None:
            await self._sleep(seconds)
            if life == self._life:
                act()

        self._tasks.start(wait())

    async def _about(self, on: Operation, cl_ord_id: str, work: Work) -> Answer:
        return decide(*await self._exchange(on, self.desk.venue.symbols_of(cl_ord_id), work))

    async def _exchange(self, on: Operation, symbols: list[str], work: Work) -> Exchanged:
        """One request and what came back of it."""
        if self.is_down:
            return Reach.NOT_SENT, 0, b"", "connection refused", None
        life = self._life
        await self._travel()
        if life != self._life or (on != "query" and not self._trouble.before(on, symbols)):
            return _SILENCE
        rule = self.chaos.ask("request", on, symbols)
        status, body = done(work) if rule is None else await self._struck(rule, work)
        await self._travel()
        if not status or life != self._life:
            return _SILENCE
        retry_after_s = float(rule.retry_after_s) if rule is not None and status == TOO_MANY.status else None
        return Reach.ANSWERED, status, body, "", retry_after_s

    async def _struck(self, rule: Rule, work: Work) -> tuple[int, bytes]:
        """Status 0: the answer never came, or not whole."""
        if rule.kind == "delayed_acceptance":
            self._trouble.later(rule.delay, work)
            return 0, b""
        if rule.kind in NOTHING_RECORDED:
            return (TOO_MANY.status, error_answer(TOO_MANY)) if rule.kind == "too_many_requests" else page(rule.status)
        status, body = done(work)
        if rule.kind == "server_error_after":
            return page(rule.status)
        if rule.kind == "garbage_body":
            return 200, GARBAGE
        if rule.kind == "slow_drip":
            seconds = len(body) * rule.delay
            await self._sleep(min(seconds, ANSWER_S_MAX))
            return (status, body) if seconds < ANSWER_S_MAX else (0, b"")
        return 0, b""

    async def _travel(self) -> None:
        if self._latency_s_max:
            await self._sleep(self.chaos.random.uniform(0.0, self._latency_s_max))

    async def _page(self, ask: Work) -> bytes:
        life = self._life
        if not self.is_down:
            await self._travel()
        if self.is_down or life != self._life:
            raise VenueAway("connection refused")
        return ask()


class InProcessMarketData:
    """The gateway's FeedSource and MarketData on the simulator's feed. `listed` are the symbols of the venue."""

    def __init__(self, feed: Feed, listed: Collection[str]) -> None:
        self._feed = feed
        self._listed = listed

    async def frames(self, session: int | None, after: int | None) -> AsyncIterator[bytes]:
        yield OPEN
        reader = self._feed.join(session, 0 if after is None else after)
        try:
            while True:
                for frame in await self._feed.frames(reader):
                    yield frame.encode()
        finally:
            self._feed.leave(reader)

    async def newest(self, symbol: str) -> NewestTicks | None:
        try:
            return decode(NewestTicks, newest_answer(self._feed, self._listed, symbol))
        except VenueError as error:
            if error.status == 404:
                return None
            raise VenueAway(str(error)) from error

    async def resend(self, session: int, symbol: str, first: int, last: int) -> ResentTicks:
        try:
            return decode(ResentTicks, resend_answer(self._feed, session, symbol, first, last))
        except VenueError as error:
            raise VenueAway(str(error)) from error


# How far a request came, status, body, what went wrong for people, and the Retry-After: what `decide` is given.
Exchanged = tuple[Reach, int, bytes, str, float | None]
_SILENCE: Exchanged = (Reach.MAYBE_SENT, 0, b"", "the connection was closed without a whole answer", None)


def _terms(order: NewOrder) -> Terms | VenueError:
    """The order as the venue reads it."""
    try:
        return msgspec.convert(order, Terms, from_attributes=True)
    except msgspec.ValidationError as error:
        return VenueError(400, "malformed", str(error))


def _nobody(_: object) -> None:
    """No webhooks: reports are found in the answers and on the drop copy."""
