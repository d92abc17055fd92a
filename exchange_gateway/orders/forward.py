"""The topic handler of `orders`: commands to the venue, what became of them to `order-status`.

Orders of a batch go side by side, an order's commands one after the other. While the venue is away the batch is kept
and tried again; what of it is done stays done. What the venue may have had before a crash comes again as the same
ClOrdID, which the venue refuses as a duplicate, and is then asked about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from exchange_gateway.orders.deliver import Delivery, Verdict
from exchange_gateway.orders.ports import Told
from exchange_gateway.orders.sequence import lanes
from exchange_gateway.orders.wire import request_of
from exchange_gateway.venue import VenueAway
from infra.bus import BusError, Message
from infra.clock import Clock
from infra.contracts import TRACEPARENT, Command, Malformed, Report, SendOutcome, decode
from infra.dlq.park import Park
from infra.telemetry import SENDS

GROUP = "exchange-gateway"
TRANSIENT = (VenueAway, BusError)

Work = tuple[Message, Command]


class Forward:
    """`Worker`'s handler. Keeps in memory which messages of the batch in hand are done."""

    def __init__(self, delivery: Delivery, told: Told, clock: Clock) -> None:
        self._delivery = delivery
        self._told = told
        self._clock = clock
        self._done: set[tuple[int, int]] = set()

    async def __call__(self, messages: Sequence[Message]) -> list[Park]:
        work, parks = opened(messages)
        ways = [self._in_order(lane) for lane in lanes((command.order_id, (m, command)) for m, command in work)]
        failures = [r for r in await asyncio.gather(*ways, return_exceptions=True) if isinstance(r, BaseException)]
        # Trouble that may pass first: the worker waits, and what is done by then is not done again.
        if failures:
            raise next((f for f in failures if isinstance(f, TRANSIENT)), failures[0])
        self._done.difference_update(_place(message) for message in messages)
        return parks

    async def _in_order(self, lane: list[Work]) -> None:
        for message, command in lane:
            if _place(message) not in self._done:
                await self._tell(message, command, await self._delivery.deliver(command))
                self._done.add(_place(message))

    async def _tell(self, message: Message, command: Command, verdict: Verdict) -> None:
        answer = verdict.answer
        SENDS.labels(answer.outcome).inc()
        traceparent = (message.header(TRACEPARENT) or b"").decode("ascii", "replace")
        if answer.outcome == "accepted":
            await self._told.reports(command, answer.reports, verdict.source, traceparent)
            return
        await self._told.outcome(command, outcome_report(command, verdict, self._clock.now_ns()), traceparent)


def opened(messages: Sequence[Message]) -> tuple[list[Work], list[Park]]:
    """The commands that can be read, and the verdict on those that cannot."""
    work: list[Work] = []
    parks: list[Park] = []
    for message in messages:
        try:
            command: Command = decode(Command, message.value)
            request_of(command)
        except Malformed as error:
            parks.append(Park(message, "malformed", str(error)))
        else:
            work.append((message, command))
    return work, parks


def outcome_report(command: Command, verdict: Verdict, now_ns: int) -> Report:
    """The send outcome of a command that did not simply end in the venue's reports."""
    answer = verdict.answer
    # "Not found" answers a question; that the order never was there is for the asker to conclude.
    outcomes: dict[str, SendOutcome] = {"refused": "refused", "not_sent": "not_sent"}
    return Report(
        kind="send_outcome",
        order_id=command.order_id,
        cl_ord_id=command.cl_ord_id,
        source=verdict.source,
        received_ns=now_ns,
        reason=answer.reason,
        outcome=outcomes.get(answer.outcome, "unknown"),
        attempts=verdict.attempts,
    )


def _place(message: Message) -> tuple[int, int]:
    return message.partition, message.offset
