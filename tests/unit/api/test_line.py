"""A connection that was taken over."""

from __future__ import annotations

import socket
from typing import Any, cast

from api.line import KERNEL_UNSENT_BYTES, SILENT_MS, TakenLine


class Transport:
    """What a line uses of one."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.options: dict[tuple[int, int], int] = {}

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def write(self, data: bytes) -> None:
        self.written.append(data)


class NotTcp(Transport):
    def setsockopt(self, level: int, option: int, value: int) -> None:
        raise OSError("Operation not supported")


def line_on(transport: Transport, connections: set[Any], gone: list[str]) -> TakenLine:
    return TakenLine(cast("Any", transport), connections, lambda: gone.append("gone"))


def test_it_is_the_connection_from_then_on_until_it_is_lost() -> None:
    transport, connections, gone = Transport(), set[Any](), list[str]()
    line = line_on(transport, connections, gone)
    assert transport.protocol is line
    assert connections == {line}
    line.data_received(b"more")
    line.shutdown()
    line.write(b"a")
    line.connection_lost(None)
    line.connection_lost(None)
    line.write(b"b")
    assert (transport.written, gone, connections) == ([b"a"], ["gone"], set())


def test_the_kernel_keeps_little_for_a_slow_client_and_gives_up_a_silent_one() -> None:
    transport = Transport()
    line_on(transport, set(), [])
    assert transport.options == {
        (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT): KERNEL_UNSENT_BYTES,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): SILENT_MS,
    }


def test_a_connection_that_is_not_tcp_will_do() -> None:
    transport = NotTcp()
    line_on(transport, set(), []).write(b"a")
    assert transport.written == [b"a"]
