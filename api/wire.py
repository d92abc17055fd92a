"""The api's HTTP/1.1 protocol: uvicorn's, with two shorter ways for what is asked most.

A stream may take over its connection once its head is sent: the request is forgotten, the hub writes to the socket, and
a client costs no task, no queue and no ASGI message.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from infra.direct import Gone, Line, with_take_over


class WireProtocol(HttpToolsProtocol):
    """One connection."""

    _line: _Taken | None = None

    def on_headers_complete(self) -> None:
        if self._line is not None:
            return
        if self.parser.get_http_version() == "1.1":
            with_take_over(self.scope, self._taken_over)  # type: ignore[arg-type]
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._line is None:
            super().data_received(data)  # a client of an endless answer has nothing more to say

    def connection_lost(self, exc: Exception | None) -> None:
        line, self._line = self._line, None
        super().connection_lost(exc)
        if line is not None:
            line.lost()

    def shutdown(self) -> None:
        if self._line is None:
            super().shutdown()

    def _taken_over(self, gone: Gone) -> Line:
        """Called from the running ASGI application, after `http.response.start`."""
        cycle = self.cycle
        assert cycle.response_started
        cycle.response_complete = True  # for uvicorn the exchange is over; nothing else may be sent by it
        self._line = _Taken(self.transport, gone)
        if cycle.disconnected or self.transport.is_closing():
            asyncio.get_running_loop().call_soon(self._line.lost)
        self._forget()
        return self._line

    def _forget(self) -> None:
        """What is held for the next request of this connection, which never comes."""
        self._unset_keepalive_if_required()
        empty: Any = None
        self.scope = self.headers = empty
        self.pipeline.clear()


class _Taken:
    __slots__ = ("_gone", "_transport")

    def __init__(self, transport: asyncio.Transport, gone: Gone) -> None:
        self._transport = transport
        self._gone: Gone | None = gone

    def write(self, data: bytes) -> None:
        if self._gone is not None:
            self._transport.write(data)

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._transport.close()

    def lost(self) -> None:
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()
