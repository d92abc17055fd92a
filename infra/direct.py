"""A request and its answer without a web framework: for the few routes that are asked thousands of times a second.

A service writes such a route once, as a `Handler`. Its ordinary route calls it too, so both ways answer the same. A
response that never ends can go further and take over its connection (`Line`), where the server offers that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol

from infra.principal import Principal

JSON = "application/json"


class Asked(NamedTuple):
    """`query` is the raw query string; `headers` have lower-case names, of repeated ones the first."""

    query: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """`headers` come beside Content-Type and Content-Length."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    media_type: str = JSON


Handler = Callable[[Principal, Asked], Awaitable[Answer]]
# (method, path) → who answers it. Paths are exact, without parameters.
Handlers = Mapping[tuple[str, str], Handler]


class Line(Protocol):
    """A client's connection that was taken over: raw bytes from here on, written from the event loop only."""

    def write(self, data: bytes) -> None:
        """Never blocks; what the client does not take is kept. Nothing happens once the connection is gone."""
        ...

    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        ...

    def close(self) -> None:
        """End the connection once everything is sent."""
        ...


# Called once, when the connection is gone, whoever ended it.
Gone = Callable[[], None]
_TAKE_OVER = "xgw.take_over"


def with_take_over(scope: MutableMapping[str, Any], take: Callable[[Gone], Line]) -> None:
    """A server says that the connection of this request can be taken over."""
    scope.setdefault("extensions", {})[_TAKE_OVER] = take


def take_over(scope: Mapping[str, Any], gone: Gone) -> Line | None:
    """The connection, once the head of the answer was sent; the ASGI application may then return at once and nothing
    of the request stays in memory. None where the server cannot do that (HTTP/2, another server, a test client)."""
    take = scope.get("extensions", {}).get(_TAKE_OVER)
    return None if take is None else take(gone)
