"""What a struck request is answered with, whatever carries the answer."""

from __future__ import annotations

from collections.abc import Callable

from exchange_gateway.simulator.answers import error_answer
from exchange_gateway.simulator.messages import VenueError

GARBAGE = b'\x00\xff{"reports":[{"kind":"exec\x00'
TOO_MANY = VenueError(429, "too_many_requests", "Slow down; nothing was recorded.")
# Kinds whose answer says nothing of the request, because nobody looked at it.
NOTHING_RECORDED = ("too_many_requests", "server_error_before")

# Does what was asked and returns the answer's body, or raises VenueError.
Work = Callable[[], bytes]


def done(work: Work) -> tuple[int, bytes]:
    """Status and body, whether the venue did what was asked or refused it."""
    try:
        return 200, work()
    except VenueError as error:
        return error.status, error_answer(error)


def page(status: int) -> tuple[int, bytes]:
    """The page of something in between, not in the venue's words."""
    return status, b"<html><body>%d</body></html>" % status
