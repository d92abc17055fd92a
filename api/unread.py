"""What one connection may cost: requests that never become one (no HTTP, or a head without end) are told why and
forgotten, and a connection that has ended leaves nothing in memory.

uvicorn's httptools protocol keeps a head of any length, answers what it cannot read in plain text, and is freed by the
garbage collector only.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api import reasons
from api.errors import problem

# A request line and headers. The parser cannot read a target (path and query) beyond 64 KiB.
HEAD_BYTES_MAX = 131_072
TARGET_BYTES_MAX = 65_535
# How long what a refused client still sends is dropped. A connection closed on unread bytes is reset, and the client
# would see the reset instead of the answer (RFC 9112 §9.6).
DRAIN_S = 2.0
# uvicorn declares what it sets to None as never None.
_NOTHING: Any = None


class Bounded(HttpToolsProtocol):
    """One connection whose requests' heads are of a bounded length, and whose every refusal is a problem document."""

    _in_head = False
    _is_refused = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._in_head and not self._is_refused:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client reset the connection
        if self.pipeline:  # requests that waited for the one being answered: nobody waits for them any more
            self.pipeline.clear()
            self.cycle = _NOTHING
        self._let_go()

    def _let_go(self) -> None:
        """Request and connection know each other in a circle, which only the collector would find, and it looks seldom
        (`infra/process.py`): 8 kB for each connection that ever was."""
        if self.cycle is None or self.cycle.response_complete:
            self.cycle = self.scope = _NOTHING

    def send_400_response(self, msg: str) -> None:
        """uvicorn's for what it cannot read; `msg` says no more than that."""
        self._is_refused = True
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # in the middle of the answer to the request before: nothing fits in there
            return
        self.transport.write(self._refusal())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.url, self.headers = b"", []
        asyncio.get_running_loop().call_later(DRAIN_S, self.transport.close)

    def _refusal(self) -> bytes:
        code, status = reasons.BAD_REQUEST, 400
        if len(self.url or b"") > TARGET_BYTES_MAX:
            code, status = reasons.TARGET_TOO_LONG, 414
        elif self._head_bytes > HEAD_BYTES_MAX:
            code, status = reasons.HEAD_TOO_LARGE, 431
        answer = problem(reasons.refusal(code), "", status, {"Connection": "close"})
        lines: list[Any] = [*self.server_state.default_headers, *answer.raw_headers]
        phrase = {400: b"Bad Request", 414: b"URI Too Long", 431: b"Request Header Fields Too Large"}[status]
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (
            status, phrase, b"".join([b"%b: %b\r\n" % (name, value) for name, value in lines]), bytes(answer.body)
        )  # fmt: skip
