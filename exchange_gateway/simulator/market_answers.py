"""Market data on request: the newest ticks of a symbol, ticks sent again, and books, in the bytes of the feed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from exchange_gateway.simulator.feed import Feed
from exchange_gateway.simulator.messages import VenueError
from infra.contracts import Depth, encode

RESEND_MAX = 1000  # sequence numbers in one request


def newest_answer(feed: Feed, listed: Collection[str], symbol: str) -> bytes:
    """Raises VenueError."""
    if not feed.session:
        raise VenueError(503, "unavailable", "The first session has not opened yet.")
    ticks = feed.newest(symbol)
    if not ticks and symbol not in listed:
        raise VenueError(404, "unknown_symbol", "The symbol is not listed.")
    session = ticks[0].d if ticks else feed.session
    return encode({"symbol": symbol, "session": session, "ticks": ticks})


def resend_answer(feed: Feed, session: int, symbol: str, first: int, last: int) -> bytes:
    """Raises VenueError."""
    if not 1 <= first <= last:
        raise VenueError(400, "malformed", "from is at least 1 and at most to.")
    if last - first >= RESEND_MAX:
        raise VenueError(400, "malformed", f"At most {RESEND_MAX} sequence numbers are sent again in one answer.")
    found = feed.resend(session, symbol, first, last)
    return b'{"ticks":[%b],"missing":%b}' % (",".join(found.ticks).encode(), encode(found.missing))


def depth_frame(books: Sequence[Depth]) -> str:
    return encode({"type": "depth", "books": books}).decode()
