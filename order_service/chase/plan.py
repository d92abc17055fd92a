"""What to do about an order of which something is not known: pure, from the order as it is stored and the time.

"Not found" is no proof at once: the request may still be on its way, or the exchange may not show yet what it accepted.
It is believed only when said repeatedly, each time long enough after the last sending. Then the same ClOrdID goes
again: should the request have been there after all, the exchange refuses a duplicate and nothing counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from order_service.domain.doubt import Patience, doubt_of, doubted, request_in_doubt
from order_service.domain.lifecycle import Event
from order_service.domain.order import Order, Outcome, Pending


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the exchange what it knows of the request."""

    request: int


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Send the request again under the same ClOrdID."""

    request: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The exchange has nothing of the request and shall not have it any more. For the submit `event` ends the order."""

    request: int
    event: Event


@dataclass(frozen=True, slots=True)
class Wait:
    """It is not time yet."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is in doubt any more."""


Step = Ask | SendAgain | GiveUp | Wait | Nothing


def plan(order: Order, now_us: int, patience: Patience) -> Step:
    if not doubted(order):
        return Nothing()
    if order.next_attempt_us is None or order.next_attempt_us > now_us:
        return Wait()
    request, doubt = request_in_doubt(order), doubt_of(order)
    if doubt is None or not doubt.gone(patience.settle_us):
        return Ask(request)
    if order.outcome is Outcome.UNKNOWN:
        if order.not_after_us is not None and now_us > order.not_after_us:
            return GiveUp(request, Event.TOO_LATE)
        if order.pending is Pending.CANCEL:  # nobody wants it any more
            return GiveUp(request, Event.GIVEN_UP)
    if doubt.sends >= patience.sends_max:
        return GiveUp(request, Event.GIVEN_UP)
    return SendAgain(request)
