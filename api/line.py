"""A connection that was taken over from its request (`infra/direct.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from infra.direct import Gone

# What the kernel keeps for a client that it has not sent, beyond what is on its way: by default megabytes, which a slow
# client would get in order, as old values, before anything newer.
KERNEL_UNSENT_BYTES = 32 * 1024
# A client that does not acknowledge anything, or has no room for so long, is gone (RFC 5482).
SILENT_MS = 30_000


class TakenLine(asyncio.Protocol):
    """It is the transport's protocol from then on, so nothing of the request and of the server's own protocol stays in
    memory. `connections` is the server's set of those that it waits for when it ends."""

    __slots__ = ("_connections", "_gone", "_transport")

    def __init__(self, transport: asyncio.Transport, connections: set[Any], gone: Gone) -> None:
        self._transport = transport
        self._connections = connections
        self._gone: Gone | None = gone
        connections.add(self)
        transport.set_protocol(self)
        with contextlib.suppress(OSError):  # not TCP
            taken: socket.socket = transport.get_extra_info("socket")
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)

    # -- the line ------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._gone is not None:
            self._transport.write(data)

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # -- the transport's protocol, and the server's connection; what the client still sends is not read ----------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()

    def shutdown(self) -> None:
        """The server ends: whoever took the line over says so on it and closes it."""
