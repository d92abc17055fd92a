"""Requests that are answered between the socket and the parser, because their answer is ready (`infra/direct.py`).

Only what is plain is taken: a GET in HTTP/1.1 whose headers change nothing about the answer, by a known caller, for
something that is there. Everything else, above all every refusal, is left to the ordinary way before a byte is written,
and gets there the same answer (`direct_routes` off: all of it). A client repeats its requests byte for byte, so what
was read of one is kept, for a second and never past its token's end; and what was read of its headers, for longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from api.observe import ACCEPTED_ID
from infra.clock import NS_PER_S, Clock, Ids
from infra.direct import NOT_MODIFIED, Prepared, Quick, matches
from infra.principal import Principal
from infra.refusal import Refusal
from infra.telemetry import tallied

HEAD_BYTES_MAX = 2_048
HEADS_KEPT_MAX = 8_192
# Whole requests, by their bytes; each is read anew after this long.
REQUESTS_KEPT_MAX, KNOWN_FOR_S = 16_384, 1.0
END = b"\r\n\r\n"
ID = b"x-request-id: "
ID_DIGITS = 8
# Less than RFC 9112 §5 allows, and nothing that one parser might read in another way than the next.
_HEAD = re.compile(rb" HTTP/1\.1\r\n((?:[A-Za-z0-9_-]+: *(?:[!-~](?:[ -~]*[!-~])?)?\r\n)*)\r\n")
# With one of these a request has a body, an end of the connection or an answer of another kind.
_UNUSUAL = {b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te", b"proxy-connection"}
_READ = {b"authorization", b"if-none-match", b"x-request-id", b"connection"}

Identify = Callable[[str | None], Principal]
ServerHeaders = list[tuple[bytes, bytes]]


class Server(Protocol):
    """What is read of uvicorn: the headers that it adds by itself, with the Date. A new list every second."""

    default_headers: ServerHeaders


class Head(NamedTuple):
    """What matters of a request's headers."""

    authorization: str
    if_none_match: str | None
    request_id: bytes | None


def read_head(head: bytes) -> Head | None:
    """Of everything after the request target, to the empty line. None for what the ordinary way shall read."""
    found = _HEAD.fullmatch(head) if len(head) <= HEAD_BYTES_MAX else None
    if found is None:
        return None
    values: dict[bytes, bytes] = {}
    for line in found[1].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _UNUSUAL or name in values:
            return None
        if name in _READ:
            values[name] = value.strip(b" ")
    if values.get(b"connection", b"keep-alive").lower() != b"keep-alive" or b"authorization" not in values:
        return None
    request_id, versions = values.get(b"x-request-id"), values.get(b"if-none-match")
    return Head(
        values[b"authorization"].decode("ascii"),
        None if versions is None else versions.decode("ascii"),
        request_id if request_id is not None and ACCEPTED_ID.fullmatch(request_id) else None,
    )


class _Source:
    """One service's ready answers, and where they are counted."""

    __slots__ = ("name_at", "ready", "start", "tally_200", "tally_304")

    def __init__(self, quick: Quick) -> None:
        method, path = quick.route
        self.start = method.encode() + b" " + quick.target
        self.name_at = len(self.start)
        self.ready = quick.ready
        self.tally_200 = tallied(f"{method} {path}", "200")
        self.tally_304 = tallied(f"{method} {path}", str(NOT_MODIFIED))


# A request that came before, byte for byte: who has the answer, who asks, for what, until when this is good, and where
# it is counted. A plain tuple, because it is taken apart for every request.
_Known = tuple[Callable[[Principal, bytes, float], Prepared | None], Principal, bytes, float, Callable[[float], None]]


class QuickAnswers:
    """All of a process. `identify` gives the principal of an Authorization header, or raises Refusal."""

    def __init__(self, quicks: Sequence[Quick], identify: Identify, clock: Clock, ids: Ids) -> None:
        self._sources = [_Source(quick) for quick in quicks]
        self._identify = identify
        self._clock = clock
        self._now_s = clock.monotonic_s
        self._ids = ids
        self._heads: dict[bytes, Head] = {}
        self._known: dict[bytes, _Known] = {}
        self._server_headers: ServerHeaders | None = None
        self._start = self._start_304 = self._id_start = b""
        self._id = 0

    def one(self, data: bytes, server: Server) -> bytes | None:
        """The answer to `data`, if that is one request, whole, that came before. The shortest way of all."""
        known = self._known.get(data)
        if known is None:
            return None
        started_s = self._now_s()
        ready, asker, name, ends_s, add = known
        if started_s >= ends_s:
            del self._known[data]
            return None
        if server.default_headers is not self._server_headers:
            self._renew(server.default_headers)
        prepared = ready(asker, name, started_s)
        if prepared is None:
            return None
        self._id = number = self._id + 1
        answer = b"%b%b%b%08x\r\n\r\n%b" % (self._start, prepared.wire, self._id_start, number, prepared.body)
        add(self._now_s() - started_s)
        return answer

    def several(self, data: bytes, server: Server) -> tuple[list[bytes], int]:
        """The answers to the requests that `data` begins with, in their order, and how many bytes those are."""
        answers: list[bytes] = []
        at, size = 0, len(data)
        if server.default_headers is not self._server_headers:
            self._renew(server.default_headers)
        while at < size:
            end = data.find(END, at) + len(END)
            if end < len(END):
                break
            answer = self._answer(data if end - at == size else data[at:end])
            if answer is None:
                break
            answers.append(answer)
            at = end
        return answers, at

    def _answer(self, request: bytes) -> bytes | None:
        started_s = self._now_s()
        source = next((one for one in self._sources if request.startswith(one.start)), None)
        if source is None:
            return None
        name_end = request.find(b" ", source.name_at)
        name, rest = request[source.name_at : name_end], request[name_end:]
        head = self._heads.get(rest) or self._read(rest)
        if head is None:
            return None
        try:
            asker = self._identify(head.authorization)
        except Refusal:
            return None
        prepared = source.ready(asker, name, started_s)
        if prepared is None:
            return None
        if head.request_id is None and head.if_none_match is None:
            self._learn(request, source, asker, name, started_s)
        self._id += 1
        request_id = b"%b%b\r\n\r\n" % (ID, head.request_id) if head.request_id else self._own_id()
        if head.if_none_match is not None and matches(head.if_none_match, prepared.etag):
            source.tally_304.add(self._now_s() - started_s)
            return b"%b%b%b" % (self._start_304, prepared.wire_304, request_id)
        source.tally_200.add(self._now_s() - started_s)
        return b"%b%b%b%b" % (self._start, prepared.wire, request_id, prepared.body)

    def _own_id(self) -> bytes:
        return b"%b%08x\r\n\r\n" % (self._id_start, self._id)

    def _learn(self, request: bytes, source: _Source, asker: Principal, name: bytes, now_s: float) -> None:
        """For as long as the token is good, but not for longer than a moment: the two clocks may drift apart."""
        left_s = KNOWN_FOR_S
        if asker.expires_s is not None:
            left_s = min(left_s, asker.expires_s - self._clock.now_ns() / NS_PER_S)
        if len(self._known) >= REQUESTS_KEPT_MAX:
            self._known.clear()
        self._known[request] = (source.ready, asker, name, now_s + left_s, source.tally_200.add)

    def _read(self, rest: bytes) -> Head | None:
        head = read_head(rest)
        # An id or a version of its own makes a head that does not come again.
        if head is not None and head.request_id is None and head.if_none_match is None:
            if len(self._heads) >= HEADS_KEPT_MAX:
                self._heads.clear()
            self._heads[rest] = head
        return head

    def _renew(self, server_headers: ServerHeaders) -> None:
        """Once a second. Ids of one second share their beginning and are counted (RFC 9562 §6.2, method 2)."""
        lines = b"".join([b"%b: %b\r\n" % line for line in server_headers])
        self._start = b"HTTP/1.1 200 OK\r\n" + lines
        self._start_304 = b"HTTP/1.1 304 Not Modified\r\n" + lines
        self._id_start, self._id = ID + self._ids.hex7()[:-ID_DIGITS].encode(), 0
        self._server_headers = server_headers
