"""A request and its answer without a web framework: for the few routes that are asked thousands of times a second.

A service writes such a route once, as a `Handler`. Its ordinary route calls it too, so both ways answer the same. A
response that never ends can go further and take over its connection (`Line`), where the server offers that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol

from infra.principal import Principal

JSON = "application/json"
NOT_MODIFIED = 304


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


def header_lines(answer: Answer) -> list[tuple[bytes, bytes]]:
    """All headers of an answer, in the order in which both ways send them. A 304 describes no content (RFC 9110
    §15.4.5)."""
    own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.status == NOT_MODIFIED:
        return own
    length = b"%d" % len(answer.body)
    return [*own, (b"content-length", length), (b"content-type", answer.media_type.encode())]


def matches(if_none_match: str, etag: str) -> bool:
    """Does the client have this version already? (RFC 9110 §13.1.2, weak comparison.)"""
    return if_none_match.strip() == "*" or any(
        tag.strip().removeprefix("W/") == etag for tag in if_none_match.split(",")
    )


Handler = Callable[[Principal, Asked], Awaitable[Answer]]
# (method, path) → who answers it. Paths are exact, without parameters.
Handlers = Mapping[tuple[str, str], Handler]


class Prepared:
    """An answer 200 with an ETag that is put together before it is asked for, for many askers: as a whole, and for a
    client that has it already. `wire` and `wire_304` are what follows the Date header and goes before X-Request-Id."""

    __slots__ = ("answer", "body", "etag", "unchanged", "wire", "wire_304")

    def __init__(self, body: bytes, etag: str, cache_control: str) -> None:
        headers = {"Cache-Control": cache_control, "ETag": etag}
        self.etag = etag
        self.body = body
        self.answer = Answer(200, body, headers)
        self.unchanged = Answer(NOT_MODIFIED, b"", headers)
        self.wire = _lines(self.answer)
        self.wire_304 = _lines(self.unchanged)

    def to(self, if_none_match: str | None) -> Answer:
        """What a client gets that named these versions."""
        return self.unchanged if if_none_match is not None and matches(if_none_match, self.etag) else self.answer


class Quick(Protocol):
    """Answers that a service has ready. They are given between two reads of a socket: what has to wait for anything is
    not for here."""

    @property
    def route(self) -> tuple[str, str]:
        """(method, path), by which the metrics know it."""
        ...

    @property
    def target(self) -> bytes:
        """What the request targets in question begin with, such as `/things?id=`; the rest names the answer."""
        ...

    def ready(self, asker: Principal, name: bytes, now_s: float) -> Prepared | None:
        """The answer, counted against the asker's limits. None for everything that the ordinary way has to look at:
        what is not there, not allowed, written in another way, or worth waiting for. Then nothing was counted."""
        ...


def _lines(answer: Answer) -> bytes:
    return b"".join([b"%b: %b\r\n" % line for line in header_lines(answer)])


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

    def abort(self) -> None:
        """End the connection now: its client takes nothing any more."""
        ...


# Called once, when the connection is gone, whoever ended it.
Gone = Callable[[], None]
_TAKE_OVER = "xgw.take_over"


def with_take_over(scope: MutableMapping[str, Any], take: Callable[[Gone], Line]) -> None:
    """A server says that the connection of this request can be taken over."""
    scope.setdefault("extensions", {})[_TAKE_OVER] = take


def can_take_over(scope: Mapping[str, Any]) -> bool:
    """Whether `take_over` will give the connection, to be asked before the head is sent."""
    return _TAKE_OVER in scope.get("extensions", {})


def take_over(scope: Mapping[str, Any], gone: Gone) -> Line | None:
    """The connection, once the head of the answer was sent; the ASGI application may then return at once and nothing
    of the request stays in memory. None where the server cannot do that (HTTP/2, another server, a test client)."""
    take = scope.get("extensions", {}).get(_TAKE_OVER)
    return None if take is None else take(gone)
